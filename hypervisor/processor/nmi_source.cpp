// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/nmi_source.hpp"

#include "hypervisor/machine.hpp"
#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"

namespace bulkhead::hypervisor::nmi_source {
namespace {

constexpr std::uint16_t kSystemControlPort = 0x61;
constexpr std::uint8_t kSystemErrorOff = 1u << 2, kIoCheckOff = 1u << 3, kIoCheck = 1u << 6, kSystemError = 1u << 7;

/// What a port that is not there gives, all ones, counts as turned off.
bool is_system_error() {
  const std::uint8_t state = privileged::in8(kSystemControlPort);
  return ((state & kSystemError) && !(state & kSystemErrorOff)) || ((state & kIoCheck) && !(state & kIoCheckOff));
}

/// AMD64 APM volume 2, "Performance Counter MSRs": a counter's select register, and the distance to the next one's.
struct Counters {
  std::uint32_t first_select;
  std::uint32_t first_count;
  std::uint32_t step;
  unsigned count;
};
constexpr Counters kFourCounters = {0xc0010000, 0xc0010004, 1, 4};
constexpr Counters kSixCounters = {0xc0010200, 0xc0010201, 2, 6};
constexpr std::uint64_t kInterrupt = 1u << 20, kEnabled = 1u << 22;
constexpr std::uint64_t kNotOverflowed = std::uint64_t{1} << 47;  // a counter starts below zero

bool is_counter_overflowed() {
  constexpr std::uint32_t kMasked = 1u << 16, kDeliveryMode = 7u << 8, kNmi = 4u << 8;
  if ((local_apic::read(local_apic::Register::LvtPerformance) & (kMasked | kDeliveryMode)) != kNmi) return false;
  const bool six = machine::host_cpuid(0x80000001, 0).ecx & (1u << 23);
  const Counters& counters = six ? kSixCounters : kFourCounters;
  for (unsigned index = 0; index < counters.count; ++index) {
    std::uint64_t select = 0, count = 0;
    if (!privileged::try_read_msr(counters.first_select + index * counters.step, select) ||
        !privileged::try_read_msr(counters.first_count + index * counters.step, count)) {
      return false;
    }
    constexpr std::uint64_t kInterrupting = kInterrupt | kEnabled;
    if ((select & kInterrupting) == kInterrupting && !(count & kNotOverflowed)) return true;
  }
  return false;
}

}  // namespace

bool is_active() { return is_system_error() || is_counter_overflowed(); }

}  // namespace bulkhead::hypervisor::nmi_source
