// SPDX-License-Identifier: Apache-2.0
//
// What of a VP has no register names: its local APIC with what waits there, its synthetic timers, its extended state. Together
// with the registers it is all that the VP is, so a parent can save it and make another one that goes on in its place.
#include <algorithm>
#include <array>
#include <cstring>

#include "hypervisor/machine.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

// The XSAVE area: AMD64 APM volume 2, section 11.5.
constexpr std::size_t kControlStatus = 24;                               // MXCSR
constexpr std::size_t kLegacySize = 512, kFrontSize = kLegacySize + 64;  // the header is behind the legacy region
constexpr std::uint64_t kLegacyComponents = 3;

/// Whether loading this front of an area raises no exception, whatever is behind it.
bool is_loadable(std::span<const std::byte, kFrontSize> front) {
  const auto word = [front](std::size_t offset) {
    std::uint64_t value;
    std::memcpy(&value, front.data() + offset, sizeof value);
    return value;
  };
  // Misaligned operands of SSE instructions: CPUID 80000001h ECX.
  const bool misaligned = machine::host_cpuid(0x80000001, 0).ecx & 1u << 7;
  const std::uint32_t control_bits = 0xffff | (misaligned ? 1u << 17 : 0);
  if (static_cast<std::uint32_t>(word(kControlStatus)) & ~control_bits) return false;
  if (word(kLegacySize) & ~(machine::xsave_features() | kLegacyComponents)) return false;
  return std::ranges::all_of(front.subspan(kLegacySize + 8), [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

void VirtualProcessor::skip_time(std::uint64_t ticks) {
  const std::int64_t offset = tsc_offset() - static_cast<std::int64_t>(ticks);
  tsc_offset_ = offset;
  hardware_.set_tsc_offset(offset);
  apic_.timer().postpone(ticks);
}

hv_local_interrupt_controller_state VirtualProcessor::get_local_apic() {
  const std::uint64_t time = now();
  collect_mailbox();
  if (time >= apic_.timer().deadline()) apic_.fire_timer(time);
  changed_ = true;
  hv_local_interrupt_controller_state state{};
  apic_.save(state, time);
  state.waiting = (nmi_pending_ ? HV_APIC_WAITING_NMI : 0) | (external_interrupt_ ? HV_APIC_WAITING_EXTERNAL : 0) |
                  (ended_level_interrupt_ ? HV_APIC_WAITING_ENDED : 0) | (eoi_assisted_ ? HV_APIC_WAITING_ASSIST : 0);
  state.external_vector = external_interrupt_.value_or(0);
  state.ended_vector = ended_level_interrupt_.value_or(0);
  return state;
}

hv_status VirtualProcessor::set_local_apic(const hv_local_interrupt_controller_state& state) {
  constexpr std::uint32_t kKnown =
      HV_APIC_WAITING_NMI | HV_APIC_WAITING_EXTERNAL | HV_APIC_WAITING_ENDED | HV_APIC_WAITING_ASSIST;
  if (state.waiting & ~kKnown || state.reserved) return HV_STATUS_INVALID_PARAMETER;
  const bool external = state.waiting & HV_APIC_WAITING_EXTERNAL, ended = state.waiting & HV_APIC_WAITING_ENDED;
  if ((!external && state.external_vector) || (ended ? state.ended_vector < 16 : state.ended_vector != 0)) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  if (!apic_.restore(state, now())) return HV_STATUS_INVALID_REGISTER_VALUE;
  nmi_pending_ = state.waiting & HV_APIC_WAITING_NMI;
  external_interrupt_ = external ? std::optional(state.external_vector) : std::nullopt;
  ended_level_interrupt_ = ended ? std::optional(state.ended_vector) : std::nullopt;
  eoi_assisted_ = state.waiting & HV_APIC_WAITING_ASSIST;
  apic_changed();
  return HV_STATUS_SUCCESS;
}

hv_status VirtualProcessor::set_timers(const hv_synthetic_timers_state& state) {
  if (!timers_.restore(state)) return HV_STATUS_INVALID_REGISTER_VALUE;
  refresh_timer_deadline();
  changed_ = true;
  return HV_STATUS_SUCCESS;
}

hv_status VirtualProcessor::set_xsave(std::span<const std::byte, kPageSize> area) {
  // The root may write to the area meanwhile. What is looked at is copied once; what follows can be anything.
  std::array<std::byte, kFrontSize> front;
  std::memcpy(front.data(), area.data(), front.size());
  if (!is_loadable(front)) return HV_STATUS_INVALID_REGISTER_VALUE;
  const std::span<std::byte, kPageSize> own = hardware_.extended_state();
  std::memcpy(own.data(), area.data(), own.size());
  std::memcpy(own.data(), front.data(), front.size());
  return HV_STATUS_SUCCESS;
}

}  // namespace bulkhead::hypervisor
