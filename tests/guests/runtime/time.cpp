// SPDX-License-Identifier: Apache-2.0
#include "time.hpp"

namespace bulkhead::guest {
namespace {

constexpr std::uint64_t kPitFrequency = 1193182;
constexpr std::uint16_t kPitChannel2 = 0x42, kPitMode = 0x43, kGate = 0x61;

/// How much the TSC counts while channel 2 counts down from `count`.
std::uint64_t measure(std::uint16_t count) {
  out8(kGate, (in8(kGate) & 0xfc) | 1);  // gate open, speaker off
  out8(kPitMode, 0xb0);                  // channel 2, both bytes, mode 0
  out8(kPitChannel2, count & 0xff);
  out8(kPitChannel2, count >> 8);
  const std::uint64_t start = tsc();
  while (!(in8(kGate) & 0x20)) {
  }
  return tsc() - start;
}

}  // namespace

std::uint64_t tsc_frequency() {
  static std::uint64_t frequency;
  if (frequency == 0) {
    // The host may take the processor away meanwhile, which only makes it longer.
    constexpr std::uint16_t kCount = 23863;  // 20 ms
    std::uint64_t shortest = measure(kCount);
    for (int again = 0; again < 2; ++again) {
      const std::uint64_t once = measure(kCount);
      if (once < shortest) shortest = once;
    }
    frequency = shortest * kPitFrequency / kCount;
  }
  return frequency;
}

std::uint64_t microseconds_to_tsc(std::uint64_t microseconds) { return tsc_frequency() / 1000 * microseconds / 1000; }

void delay_microseconds(std::uint64_t microseconds) {
  wait_until([] { return false; }, microseconds);
}

}  // namespace bulkhead::guest
