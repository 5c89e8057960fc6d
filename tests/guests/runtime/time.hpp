// SPDX-License-Identifier: Apache-2.0
//
// Time, told by the TSC, whose frequency is measured with the PIT's channel 2.
#pragma once

#include <cstdint>

namespace bulkhead::guest {

/// Hz.
std::uint64_t tsc_frequency();
std::uint64_t microseconds_to_tsc(std::uint64_t microseconds);
/// Waits without an interrupt.
void delay_microseconds(std::uint64_t microseconds);

/// Waits until `done()` or until the time is up; returns what `done()` says in the end.
template <typename Condition>
bool wait_until(Condition done, std::uint64_t microseconds);

}  // namespace bulkhead::guest

#include "instructions.hpp"

template <typename Condition>
bool bulkhead::guest::wait_until(Condition done, std::uint64_t microseconds) {
  const std::uint64_t end = tsc() + microseconds_to_tsc(microseconds);
  while (!done()) {
    if (tsc() >= end) return done();
    pause();
  }
  return true;
}
