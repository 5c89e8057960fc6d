// SPDX-License-Identifier: Apache-2.0
//
// Shutdown: the host asks the guest's operating system to end. The guest answers before it acts.
#pragma once

#include "abi/integration/frame.hpp"

namespace bulkhead::abi::integration {

inline constexpr Guid kShutdownInterface = Guid::of("0e0b6031-5213-4934-818b-38d90ced39db");
inline constexpr Guid kShutdownInstance = Guid::of("b6650ff7-33bc-4840-8048-e0676786f393");

struct ShutdownFlags {
  static constexpr std::uint32_t kForce = 1;
  static constexpr std::uint32_t kRestart = 2;
  static constexpr std::uint32_t kHibernate = 4;  // from version 3.2 on
};
/// Of the reasons, "planned".
inline constexpr std::uint32_t kShutdownReasonPlanned = 0x8000'0000;

struct Shutdown {
  std::uint32_t reason;
  std::uint32_t timeout_seconds;
  std::uint32_t flags;         // ShutdownFlags
  std::uint8_t message[2048];  // for the guest's users, UTF-8, ends with a zero
};
static_assert(sizeof(Shutdown) == 2060 && offsetof(Shutdown, message) == 12);

}  // namespace bulkhead::abi::integration
