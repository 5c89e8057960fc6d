// SPDX-License-Identifier: Apache-2.0
//
// What all integration services share: the frame of their messages, and how guest and host agree on versions.
//
//   0        8                    28
//   ┌────────┬────────────────────┬───────────────────────┐
//   │ pipe   │ message header     │ body, by the service  │   in an in-band packet of the service's own channel
//   └────────┴────────────────────┴───────────────────────┘
//
//   host                                   guest
//     NEGOTIATE: framework versions,  ──▶
//                message versions     ◀──    one of each, or none: nothing in common
//     request (transaction id)        ──▶
//                                     ◀──    the same message with its answer in it, flags Transaction | Response
//
// All integers are little endian.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/guid.hpp"

namespace bulkhead::abi::integration {

/// The user data of a named-pipe offer begins with this: each packet is one message.
inline constexpr std::uint32_t kPipeMessageMode = 4;

struct PipeHeader {
  static constexpr std::uint32_t kData = 1;

  std::uint32_t type;
  std::uint32_t size;  // of what follows
};
static_assert(sizeof(PipeHeader) == 8);

struct Version {
  std::uint16_t major;
  std::uint16_t minor;

  auto operator<=>(const Version&) const = default;
};
static_assert(sizeof(Version) == 4);

enum class MessageType : std::uint16_t {
  Negotiate = 0,
  Heartbeat = 1,
  KeyValueExchange = 2,
  Shutdown = 3,
  TimeSynchronization = 4,
  VolumeSnapshot = 5,
  FileCopy = 7,
};

/// A status of the guest's: an HRESULT.
enum class Status : std::uint32_t {
  Ok = 0,
  NotSupported = 0x8007'0032,
  FileExists = 0x8007'0050,
  DiskFull = 0x8007'0070,
  NoMoreItems = 0x8007'0103,
  Fail = 0x8000'4005,
  NotFound = 0x8004'1002,
};

struct MessageFlags {
  static constexpr std::uint8_t kTransaction = 1;
  static constexpr std::uint8_t kRequest = 2;
  static constexpr std::uint8_t kResponse = 4;
};

struct MessageHeader {
  Version framework_version;
  MessageType type;
  Version message_version;
  std::uint16_t size;  // of the body
  Status status;
  std::uint8_t transaction;
  std::uint8_t flags;
  std::uint8_t reserved[2];
};
static_assert(sizeof(MessageHeader) == 20 && offsetof(MessageHeader, size) == 10 &&
              offsetof(MessageHeader, status) == 12 && offsetof(MessageHeader, flags) == 17);

/// Body of NEGOTIATE; framework versions, then message versions follow.
struct Negotiate {
  std::uint16_t framework_version_count;
  std::uint16_t message_version_count;
  std::uint32_t reserved;
};
static_assert(sizeof(Negotiate) == 8);

/// Bytes of the largest message, frame included.
inline constexpr std::size_t kMaximumMessageSize = 13312;

}  // namespace bulkhead::abi::integration
