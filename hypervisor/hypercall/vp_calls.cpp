// SPDX-License-Identifier: Apache-2.0
//
// Calls about a virtual processor: TLFS, "Virtual Processor Management" and "Virtual Interrupt Controller".
#include <algorithm>

#include "hypervisor/hypercall/root_call.hpp"
#include "hypervisor/memory/root_memory.hpp"
#include "hypervisor/partition/partition_table.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor::root {
namespace {

PartitionReference find(std::uint64_t id) { return partition_table().lock()->find(id); }

/// A VP for the caller alone, for as long as the object lives.
class AcquiredVp {
 public:
  AcquiredVp(std::uint64_t partition_id, std::uint32_t vp_index, bool dispatch = false)
      : partition_(find(partition_id)) {
    if (!partition_) return;
    const Partition::VpOrStatus result = partition_->acquire_vp(vp_index, dispatch);
    vp_ = result.vp;
    status_ = result.status;
  }
  AcquiredVp(const AcquiredVp&) = delete;
  AcquiredVp& operator=(const AcquiredVp&) = delete;
  ~AcquiredVp() {
    if (vp_) partition_->release_vp(*vp_);
  }

  explicit operator bool() const { return vp_ != nullptr; }
  VirtualProcessor* operator->() const { return vp_; }
  hv_status status() const { return status_; }

 private:
  PartitionReference partition_;
  VirtualProcessor* vp_ = nullptr;
  hv_status status_ = HV_STATUS_INVALID_PARTITION_ID;
};

/// What calls 0xe3 and 0xe4 have in common: which state, and where it is if it is in a page.
struct StateCall {
  explicit StateCall(const RootCall& call) : input(call.input<hv_vp_state>()) {
    std::memcpy(&pfn, call.variable.data(), std::min(call.variable.size(), sizeof pfn));
    const bool in_page = input.type & HV_VP_STATE_IN_PAGE;
    valid = !input.vtl && !input.reserved2 && !input.xsave_flags && !input.xsave_states &&
            std::ranges::all_of(input.reserved, [](std::uint8_t byte) { return byte == 0; }) &&
            (!in_page || (call.variable.size() == sizeof pfn && pfn <= kMaximumPageNumber));
  }

  hv_vp_state input;
  std::uint64_t pfn = 0;
  bool valid;
};

}  // namespace

RootCallResult create_vp(const RootCall& call) {
  const auto input = call.input<hv_create_vp>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  if (input.flags) return HV_STATUS_INVALID_PARAMETER;
  return partition->create_vp(input.vp_index);
}

RootCallResult delete_vp(const RootCall& call) {
  const auto input = call.input<hv_delete_vp>();
  const PartitionReference partition = find(input.partition_id);
  return partition ? partition->delete_vp(input.vp_index) : HV_STATUS_INVALID_PARTITION_ID;
}

RootCallResult get_vp_registers(const RootCall& call) {
  const auto input = call.input<hv_vp_registers>();
  if (input.vtl) return HV_STATUS_INVALID_PARAMETER;
  const AcquiredVp vp(input.partition_id, input.vp_index);
  if (!vp) return vp.status();
  for (std::uint32_t i = 0; i < call.count; ++i) {
    const auto value = vp->get_register(static_cast<abi::RegisterName>(call.element<std::uint32_t>(i)));
    if (!value) return {value.error(), i};
    call.put(value->raw, i);
  }
  return {HV_STATUS_SUCCESS, call.count};
}

RootCallResult set_vp_registers(const RootCall& call) {
  const auto input = call.input<hv_vp_registers>();
  if (input.vtl) return HV_STATUS_INVALID_PARAMETER;
  const AcquiredVp vp(input.partition_id, input.vp_index);
  if (!vp) return vp.status();
  for (std::uint32_t i = 0; i < call.count; ++i) {
    const auto assignment = call.element<hv_register_assignment>(i);
    const auto name = static_cast<abi::RegisterName>(assignment.name);
    const hv_status status = vp->set_register(name, {.raw = assignment.value});
    if (status != HV_STATUS_SUCCESS) return {status, i};
  }
  return {HV_STATUS_SUCCESS, call.count};
}

RootCallResult assert_virtual_interrupt(const RootCall& call) {
  const auto input = call.input<hv_assert_virtual_interrupt>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  constexpr std::uint32_t kFlags = HV_INTERRUPT_LEVEL_TRIGGERED | HV_INTERRUPT_LOGICAL_DESTINATION;
  if (input.flags & ~kFlags || input.vtl || input.vector > 0xff || input.destination >> 32) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  switch (input.interrupt_type) {
    case HV_INTERRUPT_TYPE_FIXED:
    case HV_INTERRUPT_TYPE_LOWEST_PRIORITY:
      if (input.vector < 16) return HV_STATUS_INVALID_PARAMETER;
      break;
    case HV_INTERRUPT_TYPE_NMI:
    case HV_INTERRUPT_TYPE_INIT:
    case HV_INTERRUPT_TYPE_SIPI:
    case HV_INTERRUPT_TYPE_EXTINT: break;
    default: return HV_STATUS_INVALID_PARAMETER;
  }
  // The TLFS's numbers are those of the local APIC's delivery modes. An address of 8 bits is one of an xAPIC.
  const InterruptRequest request{
      .mode = static_cast<DeliveryMode>(input.interrupt_type),
      .vector = static_cast<std::uint8_t>(input.vector),
      .level = (input.flags & HV_INTERRUPT_LEVEL_TRIGGERED) != 0,
      .kind = input.flags & HV_INTERRUPT_LOGICAL_DESTINATION ? Destination::Logical : Destination::Physical,
      .destination = static_cast<std::uint32_t>(input.destination),
      .wide = input.destination > 0xff};
  call.put(hv_wake_set{partition->deliver(request, Partition::kNoVp)});
  return HV_STATUS_SUCCESS;
}

RootCallResult post_message_direct(const RootCall& call) {
  const auto input = call.input<hv_post_message_direct>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  abi::SynicMessage message;
  std::memcpy(&message, input.message, sizeof message);
  if (input.vtl || input.sint >= abi::kSintCount || message.type == abi::SynicMessageType::None ||
      message.payload_size > abi::kMessagePayloadSize) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  const Partition::SynicDelivery delivery = partition->post_message(input.vp_index, input.sint, message);
  call.put(hv_wake_set{delivery.woken});
  return delivery.status;
}

RootCallResult signal_event_direct(const RootCall& call) {
  const auto input = call.input<hv_signal_event_direct>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  if (input.vtl || input.sint >= abi::kSintCount || input.flag >= abi::kEventFlagsPerSint) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  const Partition::SynicDelivery delivery = partition->signal_event(input.vp_index, input.sint, input.flag);
  call.put(hv_signal_event_direct_output{delivery.newly_signaled, {}, delivery.woken});
  return delivery.status;
}

hv_status dispatch(const hv_dispatch_vp& input, hv_dispatch_vp_output& output) {
  if (input.flags & ~HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND || input.spec_ctrl) return HV_STATUS_INVALID_PARAMETER;
  const AcquiredVp vp(input.partition_id, input.vp_index, true);
  if (!vp) return vp.status();
  output = vp->dispatch({.clear_intercept_suspend = (input.flags & HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND) != 0,
                         .timer_armed = input.timer_armed});
  return HV_STATUS_SUCCESS;
}

RootCallResult dispatch_vp(const RootCall& call) {
  hv_dispatch_vp_output output{};
  const hv_status status = dispatch(call.input<hv_dispatch_vp>(), output);
  if (status == HV_STATUS_SUCCESS) call.put(output);
  return status;
}

RootCallResult map_vp_state_page(const RootCall& call) {
  const auto input = call.input<hv_vp_state_page>();
  const bool known = input.type == HV_VP_STATE_PAGE_REGISTERS || input.type == HV_VP_STATE_PAGE_INTERCEPT_MESSAGE;
  if (!known || input.vtl || input.flags != HV_VP_STATE_PAGE_LOCATION_GIVEN || input.pfn > kMaximumPageNumber) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  const AcquiredVp vp(input.partition_id, input.vp_index);
  if (!vp) return vp.status();
  std::optional<Frame>& page = vp->state_page(static_cast<hv_vp_state_page_type>(input.type));
  if (page) return HV_STATUS_OBJECT_IN_USE;
  const hv_status status = root_memory().lock()->share({input.pfn}, PageSize::k4KiB);
  if (status == HV_STATUS_SUCCESS) page = Frame{input.pfn};
  return status;
}

RootCallResult unmap_vp_state_page(const RootCall& call) {
  hv_vp_state_page input{};
  std::memcpy(&input, call.header.data(), call.header.size());
  const bool known = input.type == HV_VP_STATE_PAGE_REGISTERS || input.type == HV_VP_STATE_PAGE_INTERCEPT_MESSAGE;
  if (!known || input.vtl) return HV_STATUS_INVALID_PARAMETER;
  const AcquiredVp vp(input.partition_id, input.vp_index);
  if (!vp) return vp.status();
  std::optional<Frame>& page = vp->state_page(static_cast<hv_vp_state_page_type>(input.type));
  if (!page) return HV_STATUS_NOT_FOUND;
  root_memory().lock()->unshare(*page);
  page.reset();
  return HV_STATUS_SUCCESS;
}

RootCallResult get_vp_state(const RootCall& call) {
  const StateCall state(call);
  if (!state.valid) return HV_STATUS_INVALID_PARAMETER;
  const AcquiredVp vp(state.input.partition_id, state.input.vp_index);
  if (!vp) return vp.status();
  hv_local_interrupt_controller_state apic{};
  std::span<const std::byte> bytes;
  switch (state.input.type) {
    case HV_VP_STATE_LOCAL_APIC:
      apic = vp->get_local_apic();
      bytes = std::as_bytes(std::span(&apic, 1));
      break;
    case HV_VP_STATE_XSAVE: bytes = vp->get_xsave(); break;
    case HV_VP_STATE_SYNTHETIC_TIMERS: call.put(vp->get_timers()); return HV_STATUS_SUCCESS;
    default: return HV_STATUS_INVALID_PARAMETER;
  }
  auto memory = root_memory().lock();
  std::byte* page = memory->accessible(Frame{state.pfn}.address(), kPageSize);
  if (!page) return HV_STATUS_INVALID_PARAMETER;
  std::memcpy(page, bytes.data(), bytes.size());
  return HV_STATUS_SUCCESS;
}

RootCallResult set_vp_state(const RootCall& call) {
  const StateCall state(call);
  if (!state.valid) return HV_STATUS_INVALID_PARAMETER;
  const AcquiredVp vp(state.input.partition_id, state.input.vp_index);
  if (!vp) return vp.status();
  if (state.input.type == HV_VP_STATE_SYNTHETIC_TIMERS) {
    hv_synthetic_timers_state timers;
    if (call.variable.size() != sizeof timers) return HV_STATUS_INVALID_PARAMETER;
    std::memcpy(&timers, call.variable.data(), sizeof timers);
    return vp->set_timers(timers);
  }
  hv_local_interrupt_controller_state apic;
  {
    auto memory = root_memory().lock();
    const std::byte* page = memory->accessible(Frame{state.pfn}.address(), kPageSize);
    if (!page) return HV_STATUS_INVALID_PARAMETER;
    if (state.input.type == HV_VP_STATE_XSAVE)
      return vp->set_xsave(std::span<const std::byte, kPageSize>(page, kPageSize));
    std::memcpy(&apic, page, sizeof apic);
  }
  return state.input.type == HV_VP_STATE_LOCAL_APIC ? vp->set_local_apic(apic) : HV_STATUS_INVALID_PARAMETER;
}

RootCallResult get_vp_cpuid_values(const RootCall& call) {
  const auto input = call.input<hv_get_vp_cpuid_values>();
  if (input.flags != (HV_CPUID_USE_VP_XFEM | HV_CPUID_APPLY_REGISTERED) || input.reserved || input.padding) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  const AcquiredVp vp(input.partition_id, input.vp_index);
  if (!vp) return vp.status();
  for (std::uint32_t i = 0; i < call.count; ++i) {
    const auto wanted = call.element<hv_cpuid_leaf>(i);
    if (wanted.xfem || wanted.xss) return {HV_STATUS_INVALID_PARAMETER, i};
    const machine::CpuidResult values = vp->cpuid_values(wanted.leaf, wanted.subleaf);
    call.put(hv_cpuid_values{values.eax, values.ebx, values.ecx, values.edx}, i);
  }
  return {HV_STATUS_SUCCESS, call.count};
}

}  // namespace bulkhead::hypervisor::root
