// SPDX-License-Identifier: Apache-2.0
//
// Time synchronization: the host tells its time of day, now and then as a sample, and as an order to set the clock when
// the guest cannot have kept it. Times are in 100 ns.
#pragma once

#include "abi/integration/frame.hpp"

namespace bulkhead::abi::integration {

inline constexpr Guid kTimeSynchronizationInterface = Guid::of("9527e630-d0ae-497b-adce-e80ab0175caf");
inline constexpr Guid kTimeSynchronizationInstance = Guid::of("2dd1ce17-079e-403c-b352-a1921ee207ee");

/// From 1601-01-01, the beginning of `host_time`, to 1970-01-01.
inline constexpr std::uint64_t kUnixEpoch = 116'444'736'000'000'000;

struct TimeFlags {
  static constexpr std::uint8_t kSynchronize = 1;  // set the clock
  static constexpr std::uint8_t kSample = 2;
};

/// From version 4.0 on.
struct TimeReference {
  std::uint64_t host_time;       // UTC since 1601-01-01
  std::uint64_t reference_time;  // of the partition, at that moment
  std::uint8_t flags;
  std::uint8_t leap_indicator;
  std::uint8_t stratum;
  std::uint8_t reserved[5];
};
static_assert(sizeof(TimeReference) == 24 && offsetof(TimeReference, flags) == 16);

/// Before 4.0.
struct [[gnu::packed]] TimeBefore4_0 {
  std::uint64_t host_time;
  std::uint64_t guest_time;
  std::uint64_t round_trip_time;
  std::uint8_t flags;
  std::uint8_t reserved[3];
};
static_assert(sizeof(TimeBefore4_0) == 28);

}  // namespace bulkhead::abi::integration
