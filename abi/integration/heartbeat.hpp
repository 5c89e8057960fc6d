// SPDX-License-Identifier: Apache-2.0
//
// Heartbeat: the host asks every two seconds, the guest answers with the sequence number plus one.
#pragma once

#include "abi/integration/frame.hpp"

namespace bulkhead::abi::integration {

inline constexpr Guid kHeartbeatInterface = Guid::of("57164f39-9115-4e78-ab55-382f3bd5422d");
inline constexpr Guid kHeartbeatInstance = Guid::of("fd149e91-82e0-4a7d-afa6-2a4166cbd7c0");

/// How the guest's applications are, for guests that know. Others leave what the host has sent: 0.
enum class ApplicationState : std::uint32_t { Unknown = 0, Healthy = 1, Critical = 2, Stopped = 3 };

struct Heartbeat {
  std::uint64_t sequence;
  ApplicationState application_state;
  std::uint32_t reserved[7];  // Linux expects the message to be this long
};
static_assert(sizeof(Heartbeat) == 40);

}  // namespace bulkhead::abi::integration
