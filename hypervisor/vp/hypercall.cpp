// SPDX-License-Identifier: Apache-2.0
//
// A child's hypercalls: TLFS, "Hypercall Interface". A child has none of the calls for parents. Messages and events go to its
// parent if that has asked for them (calls that nobody knows do so too); the others are done here.
#include "hypervisor/vp/hypercall.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {
namespace {

// code, rep, variable header, input, element of the list
constexpr GuestCallShape kGuestCalls[] = {
    {HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, false, false, 24, 0},
    {HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, true, false, 24, 8},
    {HV_CALL_NOTIFY_LONG_SPIN_WAIT, false, false, 8, 0},
    {HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, false, false, 16, 0},
    {HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, false, true, 32, 0},
    {HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, true, true, 32, 8},
    {HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, false, true, 24, 0},
    {HV_CALL_POST_MESSAGE, false, false, sizeof(abi::PostMessageInput), 0},
    {HV_CALL_SIGNAL_EVENT, false, false, sizeof(abi::SignalEventInput), 0},
};

/// By code: 1 + the index in kGuestCalls, or 0.
constexpr std::array<std::uint8_t, 96> kIndex = [] {
  std::array<std::uint8_t, 96> index{};
  for (std::size_t i = 0; i < std::size(kGuestCalls); ++i)
    index[kGuestCalls[i].code] = static_cast<std::uint8_t>(i + 1);
  return index;
}();

const GuestCallShape* find_guest_call(std::uint16_t code) {
  return code < kIndex.size() && kIndex[code] ? &kGuestCalls[kIndex[code] - 1] : nullptr;
}

bool is_connection_call(const GuestCallShape& shape) {
  return shape.code == HV_CALL_POST_MESSAGE || shape.code == HV_CALL_SIGNAL_EVENT;
}

constexpr std::uint64_t pair(std::uint64_t high, std::uint64_t low) {
  return high << 32 | static_cast<std::uint32_t>(low);
}

/// RDX, R8 and XMM0-5 are all that a fast call has.
constexpr std::size_t kFastInput = 16 + 6 * 16;

}  // namespace

hv_status GuestCall::check() const {
  const ControlWord word(control);
  const hv_status status = hypervisor::check(word, shape.rep, shape.variable);
  if (status == HV_STATUS_SUCCESS && word.fast() && input_size() > kFastInput) return HV_STATUS_INVALID_HYPERCALL_INPUT;
  return status;
}

std::size_t GuestCall::input_size() const {
  const ControlWord word(control);
  return shape.input + 8 * word.variable_header() + std::size_t{shape.element} * word.rep_count();
}

/// The call's first words, from the registers of either mode.
GuestCall VirtualProcessor::guest_call(const ExecutionMode& mode, std::uint64_t control,
                                       const GuestCallShape& shape) const {
  const std::uint64_t* general = hardware_.general;
  if (mode.is_64_bit()) return {control, {general[2], general[8]}, shape};
  return {control, {pair(general[3], general[1]), pair(general[7], general[6])}, shape};
}

/// Copies the front of the call's input, once. A fast call's list, or the end of a processor set, is not looked at by any call.
hv_status VirtualProcessor::read_input(const GuestCall& call, std::span<std::byte> front) const {
  const std::size_t size = call.input_size();
  const std::size_t wanted = std::min(front.size(), size);
  if (ControlWord(call.control).fast()) {
    std::memcpy(front.data(), call.input, std::min(wanted, sizeof call.input));
    for (std::size_t at = sizeof call.input; at < wanted; at += 16) {
      const auto name = static_cast<std::uint32_t>(abi::RegisterName::Xmm0) + static_cast<std::uint32_t>(at / 16 - 1);
      const auto value = hardware_.get_register(static_cast<abi::RegisterName>(name)).value_or(abi::RegisterValue{});
      std::memcpy(front.data() + at, &value, std::min<std::size_t>(wanted - at, sizeof value));
    }
    return HV_STATUS_SUCCESS;
  }
  const std::uint64_t address = call.input[0];
  if (address % 8 || address % kPageSize + size > kPageSize) return HV_STATUS_INVALID_ALIGNMENT;
  const std::byte* page = partition_.page_at(GuestPage::at(address));
  if (!page) return HV_STATUS_INVALID_ALIGNMENT;
  std::memcpy(front.data(), page + address % kPageSize, wanted);
  return HV_STATUS_SUCCESS;
}

VirtualProcessor::Next VirtualProcessor::handle_hypercall(const Exit& exit) {
  const ExecutionMode mode = hardware_.mode();
  if (mode.cpl != 0 || !(mode.cr0 & kCr0ProtectedMode)) return undefined_instruction();
  std::uint64_t* general = hardware_.general;
  const bool wide = mode.is_64_bit();
  const std::uint64_t control = wide ? general[1] : pair(general[2], general[0]);
  const auto code = static_cast<std::uint16_t>(control);
  if (const GuestCallShape* shape = find_guest_call(code)) {
    return handle_guest_call(exit, guest_call(mode, control, *shape), wide);
  }
  const bool known = find_root_call(code) != nullptr;
  if (!known && partition_.configuration().intercepts.wants_hypercalls()) return intercept_hypercall(exit);
  if (!finish_instruction(exit, Operation::Hypercall)) return Next::Prepare;
  general[0] = known ? HV_STATUS_ACCESS_DENIED : HV_STATUS_INVALID_HYPERCALL_CODE;
  if (!wide) general[2] = 0;
  return Next::Enter;
}

VirtualProcessor::Next VirtualProcessor::handle_guest_call(const Exit& exit, const GuestCall& call, bool wide) {
  const bool connection = is_connection_call(call.shape);
  const bool allowed = !connection || partition_.configuration().intercepts.wants_connections();
  std::array<std::byte, GuestCall::kFront> input{};
  hv_status status = allowed ? call.check() : HV_STATUS_ACCESS_DENIED;
  if (status == HV_STATUS_SUCCESS) status = read_input(call, input);
  if (status == HV_STATUS_SUCCESS && connection) return intercept_hypercall(exit);
  if (!finish_instruction(exit, Operation::Hypercall)) return Next::Prepare;
  const Next next = status == HV_STATUS_SUCCESS ? perform(call, input, status) : Next::Enter;
  const std::uint32_t done = status == HV_STATUS_SUCCESS ? ControlWord(call.control).rep_count() : 0;
  const std::uint64_t result = status | std::uint64_t{done} << HV_HYPERCALL_REP_COUNT_SHIFT;
  hardware_.general[0] = wide ? result : static_cast<std::uint32_t>(result);
  if (!wide) hardware_.general[2] = result >> 32;
  return next;
}

namespace {

template <typename T>
T field(std::span<const std::byte> input, std::size_t offset) {
  T value;
  std::memcpy(&value, input.data() + offset, sizeof value);
  return value;
}

/// TLFS, "HV_VP_SET": format, mask of the banks of 64 that are given, the banks. Nothing: the two disagree, or an unknown format.
std::optional<std::uint64_t> vp_set(std::span<const std::byte> input, std::size_t offset, unsigned banks) {
  constexpr std::uint64_t kSparse = 0, kAll = 1;
  const auto format = field<std::uint64_t>(input, offset), given = field<std::uint64_t>(input, offset + 8);
  if (format == kAll) return ~0ull;
  for (std::uint64_t rest = given; rest; rest &= rest - 1) --banks;  // there is no function for it in the image
  if (format != kSparse || banks != 0) return std::nullopt;
  static_assert(kMaximumVps <= 64, "further banks are of VPs that do not exist");
  return given & 1 ? field<std::uint64_t>(input, offset + 16) : 0;
}

}  // namespace

VirtualProcessor::Next VirtualProcessor::perform(const GuestCall& call, std::span<const std::byte> input,
                                                 hv_status& status) {
  constexpr std::uint64_t kAllProcessors = 1;
  const unsigned banks = ControlWord(call.control).variable_header();
  const auto masked = [&](std::size_t offset) { return std::optional(field<std::uint64_t>(input, offset)); };
  std::optional<std::uint64_t> vps;
  switch (call.shape.code) {
    case HV_CALL_NOTIFY_LONG_SPIN_WAIT: return Next::Yield;
    case HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI:
    case HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX: {
      vps = call.shape.variable ? vp_set(input, 8, banks) : masked(8);
      const auto vector = field<std::uint32_t>(input, 0);
      const bool valid = vector >= 16 && vector <= 0xff && field<std::uint8_t>(input, 4) == 0;
      if (!vps || !valid) {
        status = HV_STATUS_INVALID_PARAMETER;
        return Next::Enter;
      }
      wake_set_ |= partition_.deliver_to(*vps, {.vector = static_cast<std::uint8_t>(vector)});
      return wake_set_ ? Next::Prepare : Next::Enter;
    }
    default: break;
  }
  // The four flushes. All of a TLB is more than was asked for, and is what the processor can do.
  vps = call.shape.variable ? vp_set(input, 16, banks) : masked(16);
  if (field<std::uint64_t>(input, 8) & kAllProcessors) vps = ~0ull;
  if (vps)
    flush_tlbs(*vps);
  else
    status = HV_STATUS_INVALID_PARAMETER;
  return Next::Enter;
}

/// When it returns, none of these VPs uses a translation from before the call. A VP that runs elsewhere leaves the guest for that and is
/// waited for, which is why this one serves the wishes of others meanwhile: they may be waiting for it.
void VirtualProcessor::flush_tlbs(std::uint64_t vps) {
  const std::uint64_t self = 1ull << index_;
  if (vps & self) hardware_.flush_tlb();
  vps &= ~self;
  if (!vps) return;
  partition_.request_flush(vps);
  while (partition_.flush_outstanding(vps)) {
    if (partition_.take_flush_request(index_)) hardware_.flush_tlb();
    __builtin_ia32_pause();
  }
}

}  // namespace bulkhead::hypervisor
