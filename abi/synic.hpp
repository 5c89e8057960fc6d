// SPDX-License-Identifier: Apache-2.0
//
// The synthetic interrupt controller (SynIC) as guest and host see it: TLFS, "Virtual Interrupt Controller" and
// "Inter-Partition Communication". Each VP has two pages in guest memory, both cut in one part for each of its
// 16 synthetic interrupt sources (SINTs):
//
//   message page (SIMP)      16 slots of one 256-byte message; a slot is free while its type is 0
//   event flags page (SIEFP) 16 sets of 2048 bits
//
// The host fills a slot or sets a bit and raises the SINT's vector. A guest that has taken a message frees the slot and,
// if the message's "pending" flag is set, writes the EOM register: only then does the next message come.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bulkhead::abi {

enum class VpIndex : std::uint32_t {};
/// What a guest names as the target of its PostMessage and SignalEvent hypercalls. 24 bits.
enum class ConnectionId : std::uint32_t {};
/// A synthetic interrupt source, 0 to 15.
enum class Sint : std::uint8_t {};

inline constexpr unsigned kSintCount = 16;
inline constexpr unsigned kEventFlagsPerSint = 2048;
inline constexpr std::size_t kMessagePayloadSize = 240;
inline constexpr std::size_t kSynicPageSize = 4096;

enum class SynicMessageType : std::uint32_t {
  None = 0,
  VmbusChannel = 1,
  TimerExpired = 0x8000'0010,
};

/// Flags of a message: another one waits for the slot.
inline constexpr std::uint8_t kMessagePending = 1;

/// TLFS HV_MESSAGE.
struct SynicMessage {
  SynicMessageType type;
  std::uint8_t payload_size;
  std::uint8_t flags;
  std::uint16_t reserved;
  std::uint64_t sender;
  std::uint8_t payload[kMessagePayloadSize];
};
static_assert(sizeof(SynicMessage) == 256 && offsetof(SynicMessage, payload) == 16);
static_assert(sizeof(SynicMessage) * kSintCount == kSynicPageSize);

struct EventFlags {
  std::uint32_t words[kEventFlagsPerSint / 32];
};
static_assert(sizeof(EventFlags) * kSintCount == kSynicPageSize);

/// Input of HvCallPostMessage (0x5C): TLFS "HvCallPostMessage". The type's top bit must be clear.
struct PostMessageInput {
  ConnectionId connection;
  std::uint32_t reserved;
  SynicMessageType type;
  std::uint32_t payload_size;
  std::uint8_t payload[kMessagePayloadSize];
};
static_assert(sizeof(PostMessageInput) == 256);

/// Input of HvCallSignalEvent (0x5D), which may also come in a register.
struct SignalEventInput {
  ConnectionId connection;
  std::uint16_t flag;
  std::uint16_t reserved;
};
static_assert(sizeof(SignalEventInput) == 8);

// SynIC registers, MSR numbers.
inline constexpr std::uint32_t kMsrScontrol = 0x4000'0080;
inline constexpr std::uint32_t kMsrSversion = 0x4000'0081;
inline constexpr std::uint32_t kMsrSiefp = 0x4000'0082;
inline constexpr std::uint32_t kMsrSimp = 0x4000'0083;
inline constexpr std::uint32_t kMsrEom = 0x4000'0084;
inline constexpr std::uint32_t kMsrSint0 = 0x4000'0090;

/// SCONTROL, SIMP and SIEFP: bit 0 enables; the page of the latter two is in bits 63..12.
inline constexpr std::uint64_t kSynicEnable = 1;

/// SINT0-15: vector in bits 7..0.
inline constexpr std::uint64_t kSintMasked = 1 << 16;
inline constexpr std::uint64_t kSintAutoEoi = 1 << 17;
inline constexpr std::uint64_t kSintPolling = 1 << 18;

/// Connection ids have so many bits.
inline constexpr std::uint32_t kConnectionIdMask = 0xff'ffff;

}  // namespace bulkhead::abi
