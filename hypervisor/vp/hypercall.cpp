// SPDX-License-Identifier: Apache-2.0
//
// A child's hypercalls: TLFS, "Hypercall Interface". A child has none of the calls for parents. Messages and events go to its
// parent if that has asked for them; calls that nobody knows do so too.
#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/hypercall/control_word.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr CallShape kPostMessage{HV_CALL_POST_MESSAGE, false, sizeof(abi::PostMessageInput), 0, 0, 0};
constexpr CallShape kSignalEvent{HV_CALL_SIGNAL_EVENT, false, sizeof(abi::SignalEventInput), 0, 0, 0};

const CallShape* find_guest_call(std::uint16_t code) {
  switch (code) {
    case HV_CALL_POST_MESSAGE: return &kPostMessage;
    case HV_CALL_SIGNAL_EVENT: return &kSignalEvent;
    default: return nullptr;
  }
}

}  // namespace

VirtualProcessor::GuestCall VirtualProcessor::guest_call(const ExecutionMode& mode) const {
  const std::uint64_t* general = hardware_.general;
  if (mode.is_64_bit()) return {general[1], general[2], general[8]};
  const auto pair = [](std::uint64_t high, std::uint64_t low) { return high << 32 | static_cast<std::uint32_t>(low); };
  return {pair(general[2], general[0]), pair(general[3], general[1]), pair(general[7], general[6])};
}

/// Where the call's input lies in the guest's memory; null: not all of it is inside one page that there is.
const std::byte* VirtualProcessor::guest_call_memory(std::uint64_t address, std::size_t size) const {
  if (address % 8 || address % kPageSize + size > kPageSize) return nullptr;
  const std::byte* page = partition_.page_at(GuestPage::at(address));
  return page ? page + address % kPageSize : nullptr;
}

VirtualProcessor::Next VirtualProcessor::handle_hypercall(const Exit& exit) {
  const ExecutionMode mode = hardware_.mode();
  if (mode.cpl != 0 || !(mode.cr0 & kCr0ProtectedMode)) return undefined_instruction();
  const GuestCall call = guest_call(mode);
  const ControlWord control(call.control);
  hv_status status = HV_STATUS_INVALID_HYPERCALL_CODE;
  if (const CallShape* shape = find_guest_call(control.code())) {
    status = check_connection_call(control, *shape, call);
    if (status == HV_STATUS_SUCCESS) return intercept_hypercall(exit);
  } else if (find_root_call(control.code())) {
    status = HV_STATUS_ACCESS_DENIED;
  } else if (partition_.configuration().intercepts.wants_hypercalls()) {
    return intercept_hypercall(exit);
  }
  if (!finish_instruction(exit, Operation::Hypercall)) return Next::Prepare;
  hardware_.general[0] = status;
  if (!mode.is_64_bit()) hardware_.general[2] = 0;
  return Next::Enter;
}

/// Whether a message or an event can be the parent's business.
hv_status VirtualProcessor::check_connection_call(const ControlWord& control, const CallShape& shape,
                                                  const GuestCall& call) const {
  if (!partition_.configuration().intercepts.wants_connections()) return HV_STATUS_ACCESS_DENIED;
  if (const hv_status status = check(control, shape); status != HV_STATUS_SUCCESS) return status;
  if (!control.fast() && !guest_call_memory(call.input, shape.input)) return HV_STATUS_INVALID_ALIGNMENT;
  return HV_STATUS_SUCCESS;
}

}  // namespace bulkhead::hypervisor
