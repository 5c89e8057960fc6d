// SPDX-License-Identifier: Apache-2.0
//
// The control messages of VMBus: how guest and host agree on a version, on the channels there are, on the guest memory
// that a channel uses (a GPADL, "guest physical address descriptor list"), and on opening and closing a channel.
//
//   guest                                  host
//     INITIATE_CONTACT      ──────────▶          (PostMessage to connection 4, or 1 before version 5.0)
//                           ◀──────────    VERSION_RESPONSE      (SynIC message, SINT 2)
//     REQUEST_OFFERS        ──────────▶
//                           ◀──────────    OFFER_CHANNEL ... ALL_OFFERS_DELIVERED
//     GPADL_HEADER, _BODY   ──────────▶
//                           ◀──────────    GPADL_CREATED
//     OPEN_CHANNEL          ──────────▶
//                           ◀──────────    OPEN_CHANNEL_RESULT   ... rings, see abi/vmbus_ring.hpp ...
//     CLOSE_CHANNEL         ──────────▶
//     GPADL_TEARDOWN        ──────────▶
//                           ◀──────────    GPADL_TORNDOWN
//
// All integers are little endian. A message is at most 240 bytes long and begins with its type and 4 unused bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "abi/guid.hpp"
#include "abi/synic.hpp"

namespace bulkhead::abi::vmbus {

enum class ChannelId : std::uint32_t {};
enum class GpadlId : std::uint32_t {};

/// Event flag numbers are channel ids, so there are as many; number 0 is not used.
inline constexpr std::uint32_t kMaximumChannelId = kEventFlagsPerSint - 1;

/// Where a guest posts its messages, and the SINT on which it gets messages and event flags.
inline constexpr ConnectionId kMessageConnectionBefore5_0{1};
inline constexpr ConnectionId kMessageConnection{4};
/// Before 2.4: a signal for all channels, whose numbers are in the interrupt page.
inline constexpr ConnectionId kSharedEventConnection{2};
inline constexpr Sint kVmbusSint{2};
/// Signals of a channel go to this plus the channel's id.
inline constexpr std::uint32_t kEventConnectionBase = 0x2000;
/// A target VP that says: no interrupts.
inline constexpr VpIndex kNoTargetVp{0xffff'ffff};

/// Major version in the high half, minor in the low one.
enum class Version : std::uint32_t {
  V0_13 = 0x0000'000d,
  V1_1 = 0x0001'0001,
  V2_4 = 0x0002'0004,
  V3_0 = 0x0003'0000,
  V4_0 = 0x0004'0000,
  V4_1 = 0x0004'0001,
  V5_0 = 0x0005'0000,
  V5_1 = 0x0005'0001,
  V5_2 = 0x0005'0002,
  V5_3 = 0x0005'0003,
  V6_0 = 0x0006'0000,
};

enum class MessageType : std::uint32_t {
  OfferChannel = 1,
  RescindOffer = 2,
  RequestOffers = 3,
  AllOffersDelivered = 4,
  OpenChannel = 5,
  OpenChannelResult = 6,
  CloseChannel = 7,
  GpadlHeader = 8,
  GpadlBody = 9,
  GpadlCreated = 10,
  GpadlTeardown = 11,
  GpadlTorndown = 12,
  RelIdReleased = 13,
  InitiateContact = 14,
  VersionResponse = 15,
  Unload = 16,
  UnloadComplete = 17,
  OpenReservedChannel = 18,
  CloseReservedChannel = 19,
  CloseReservedResponse = 20,
  TlConnectRequest = 21,
  ModifyChannel = 22,
  TlConnectResult = 23,
  ModifyChannelResponse = 24,
};

/// Status values that the host answers with.
inline constexpr std::uint32_t kStatusSuccess = 0;
inline constexpr std::uint32_t kStatusUnsuccessful = 0x8000'ffff;
inline constexpr std::uint32_t kStatusConnectionRefused = 0xc000'0236;

struct MessageHeader {
  MessageType type;
  std::uint32_t padding;
};
static_assert(sizeof(MessageHeader) == 8);

/// A message that is nothing but its type: RequestOffers, AllOffersDelivered, Unload, UnloadComplete.
struct EmptyMessage {
  MessageHeader header;
};

struct InitiateContact {
  MessageHeader header;
  Version version;
  VpIndex target_vp;
  // Before 5.0 these eight bytes are the address of the interrupt page, which no version from 2.4 on uses.
  Sint target_sint;
  std::uint8_t target_vtl;
  std::uint16_t reserved;
  std::uint32_t feature_flags;
  std::uint64_t parent_to_child_monitor_page;
  std::uint64_t child_to_parent_monitor_page;

  /// Before 5.0. The page has two halves of a bit for each channel, which its sender sets: first to the guest, then to the host.
  std::uint64_t interrupt_page() const {
    return std::to_underlying(target_sint) | std::uint64_t{target_vtl} << 8 | std::uint64_t{reserved} << 16 |
           std::uint64_t{feature_flags} << 32;
  }
};
static_assert(sizeof(InitiateContact) == 40 && offsetof(InitiateContact, target_sint) == 16);

enum class ConnectionStatus : std::uint8_t { Success = 0, LowResources = 1, Failure = 2 };

struct VersionResponse {
  MessageHeader header;
  std::uint8_t supported;
  ConnectionStatus status;
  std::uint16_t padding;
  /// From 5.0 on the connection to post to from now on, before the version.
  std::uint32_t connection_or_version;
};
static_assert(sizeof(VersionResponse) == 16);

struct OfferFlags {
  static constexpr std::uint16_t kEnumerateDeviceInterface = 0x1;
  static constexpr std::uint16_t kNamedPipeMode = 0x10;
};
inline constexpr std::size_t kUserDataSize = 120;
inline constexpr std::uint8_t kNoMonitor = 0xff;

struct OfferChannel {
  MessageHeader header;
  Guid interface_type;
  Guid instance;
  std::uint8_t reserved[16];
  std::uint16_t flags;
  std::uint16_t mmio_megabytes;
  std::uint8_t user_data[kUserDataSize];
  std::uint16_t sub_channel_index;
  std::uint16_t optional_mmio_megabytes;
  ChannelId channel;
  std::uint8_t monitor_id;
  std::uint8_t monitor_allocated;
  std::uint16_t dedicated_interrupt;
  ConnectionId connection;
};
static_assert(sizeof(OfferChannel) == 196 && offsetof(OfferChannel, user_data) == 60 &&
              offsetof(OfferChannel, channel) == 184);

/// A message about one channel and no more: RescindOffer, CloseChannel, RelIdReleased.
struct ChannelMessage {
  MessageHeader header;
  ChannelId channel;
};
static_assert(sizeof(ChannelMessage) == 12);

struct OpenChannel {
  MessageHeader header;
  ChannelId channel;
  std::uint32_t open_id;
  GpadlId ring_gpadl;
  VpIndex target_vp;
  /// The first page of the host-to-guest ring; the pages before it are the guest-to-host ring.
  std::uint32_t downstream_page_offset;
  std::uint8_t user_data[kUserDataSize];
};
static_assert(sizeof(OpenChannel) == 148 && offsetof(OpenChannel, user_data) == 28);

struct OpenChannelResult {
  MessageHeader header;
  ChannelId channel;
  std::uint32_t open_id;
  std::uint32_t status;
};
static_assert(sizeof(OpenChannelResult) == 20);

/// Followed by the first bytes of the range data: {byte count u32, byte offset u32, page numbers u64 ...} each.
struct GpadlHeader {
  MessageHeader header;
  ChannelId channel;
  GpadlId gpadl;
  std::uint16_t range_data_size;
  std::uint16_t range_count;
};
static_assert(sizeof(GpadlHeader) == 20);

/// Followed by more of the range data.
struct GpadlBody {
  MessageHeader header;
  std::uint32_t message_number;
  GpadlId gpadl;
};
static_assert(sizeof(GpadlBody) == 16);

/// The head of one range of a GPADL and of a GPA-direct packet; its page numbers follow, eight bytes each.
struct GpaRange {
  std::uint32_t byte_count;
  std::uint32_t byte_offset;
};
static_assert(sizeof(GpaRange) == 8);

struct GpadlCreated {
  MessageHeader header;
  ChannelId channel;
  GpadlId gpadl;
  std::uint32_t status;
};
static_assert(sizeof(GpadlCreated) == 20);

struct GpadlTeardown {
  MessageHeader header;
  ChannelId channel;
  GpadlId gpadl;
};
static_assert(sizeof(GpadlTeardown) == 16);

struct GpadlTorndown {
  MessageHeader header;
  GpadlId gpadl;
};
static_assert(sizeof(GpadlTorndown) == 12);

struct TlConnectRequest {
  MessageHeader header;
  Guid endpoint;
  Guid service;
};
static_assert(sizeof(TlConnectRequest) == 40);

struct TlConnectResult {
  MessageHeader header;
  Guid endpoint;
  Guid service;
  std::uint32_t status;
};
static_assert(sizeof(TlConnectResult) == 44);

struct ModifyChannel {
  MessageHeader header;
  ChannelId channel;
  VpIndex target_vp;
};
static_assert(sizeof(ModifyChannel) == 16);

struct ModifyChannelResponse {
  MessageHeader header;
  ChannelId channel;
  std::uint32_t status;
};
static_assert(sizeof(ModifyChannelResponse) == 16);

}  // namespace bulkhead::abi::vmbus
