// SPDX-License-Identifier: Apache-2.0
//
// The time stamp counter's frequency, by ACPI's power management timer (3.579545 MHz, 24 bits at least), or by channel 2
// of the interval timer (1.193182 MHz) where ACPI names none.
#include "hypervisor/boot/boot.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/processor/start.hpp"

namespace bulkhead::hypervisor::boot {
namespace {

constexpr std::uint64_t kPmTimerFrequency = 3579545;
constexpr std::uint64_t kIntervalTimerFrequency = 1193182;
constexpr std::uint32_t kPmTimerTicks = 35795;        // 10 ms
constexpr std::uint16_t kIntervalTimerTicks = 11932;  // 10 ms
constexpr unsigned kPatience = 100000000;

std::uint64_t measure_by_pm_timer(std::uint16_t port) {
  const std::uint32_t start = privileged::in32(port);
  const std::uint64_t tsc = privileged::read_tsc();
  std::uint32_t passed = 0;
  for (unsigned count = 0; passed < kPmTimerTicks && count < kPatience; ++count) {
    passed = (privileged::in32(port) - start) & 0xffffff;
  }
  return (privileged::read_tsc() - tsc) * kPmTimerFrequency / (passed ? passed : 1);
}

std::uint64_t measure_by_interval_timer() {
  constexpr std::uint16_t kControl = 0x61, kMode = 0x43, kChannel2 = 0x42;
  const std::uint8_t old = privileged::in8(kControl);
  privileged::out8(kControl, static_cast<std::uint8_t>((old & ~2u) | 1u));  // gate on, speaker off
  privileged::out8(kMode, 0xb0);                                            // channel 2, mode 0
  privileged::out8(kChannel2, kIntervalTimerTicks & 0xff);
  privileged::out8(kChannel2, kIntervalTimerTicks >> 8);
  const std::uint64_t tsc = privileged::read_tsc();
  for (unsigned count = 0; !(privileged::in8(kControl) & 0x20) && count < kPatience; ++count) privileged::pause();
  const std::uint64_t passed = privileged::read_tsc() - tsc;
  privileged::out8(kControl, old);
  return passed * kIntervalTimerFrequency / kIntervalTimerTicks;
}

}  // namespace

std::uint64_t measure_tsc(std::uint16_t pm_timer_port) {
  return pm_timer_port ? measure_by_pm_timer(pm_timer_port) : measure_by_interval_timer();
}

void wait_microseconds(std::uint64_t microseconds) {
  const std::uint64_t ticks = processors::common.tsc_frequency / 1000000 * microseconds;
  const std::uint64_t start = privileged::read_tsc();
  while (privileged::read_tsc() - start < ticks) privileged::pause();
}

}  // namespace bulkhead::hypervisor::boot
