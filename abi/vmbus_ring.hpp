// SPDX-License-Identifier: Apache-2.0
//
// The rings of an open channel, one for each direction, both in guest memory: a control page, then the data.
//
//   page 0         write index │ read index │ interrupt mask │ pending send size │ … │ feature bits
//   page 1 ...     ▓▓▓▓░░░░░░░▓▓▓▓▓▓▓▓▓▓  packets, each a multiple of 8 bytes, wrapping at the end
//                      ▲ write  ▲ read
//
// Indices are byte offsets into the data. The ring is empty when they are equal, so it is never filled completely:
//
//   used = (write - read) mod size        free = size - used - 8
//
// A packet is its descriptor, the header of its type if it has one, its payload, and padding to 8 bytes; an 8-byte
// trailer that holds the packet's own offset follows.
//
//   type u16 │ payload offset u16 │ length u16 (both in units of 8) │ flags u16 │ transaction id u64 │ header │ payload
//
// Who writes a packet signals the reader if the reader has not masked interrupts and the ring was empty. Who reads
// signals the writer if that waits for room ("pending send size") and has it only now.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bulkhead::abi::vmbus {

inline constexpr std::size_t kRingPageSize = 4096;

struct RingControl {
  std::uint32_t write_index;
  std::uint32_t read_index;
  std::uint32_t interrupt_mask;
  std::uint32_t pending_send_size;
  std::uint32_t reserved[12];
  std::uint32_t feature_bits;
};
static_assert(sizeof(RingControl) == 68 && offsetof(RingControl, feature_bits) == 64);

/// Feature bits: who reads this ring honours the pending send size.
inline constexpr std::uint32_t kFeaturePendingSendSize = 1;
/// Guests leave other things in the low bits of the pending send size.
inline constexpr std::uint32_t kPendingSendSizeMask = ~std::uint32_t{7};

enum class PacketType : std::uint16_t {
  InBand = 6,
  TransferPages = 7,
  GpaDirect = 9,
  Completion = 0xb,
};

/// Flags: whoever sent this wants a completion packet with the same transaction id.
inline constexpr std::uint16_t kCompletionRequested = 1;

struct PacketDescriptor {
  PacketType type;
  std::uint16_t data_offset;  // in units of 8 bytes
  std::uint16_t length;       // in units of 8 bytes, without the trailer
  std::uint16_t flags;
  std::uint64_t transaction;
};
static_assert(sizeof(PacketDescriptor) == 16);

/// Follows the descriptor of a GPA-direct packet; the ranges (GpaRange and its page numbers) follow it.
struct GpaDirectHeader {
  std::uint32_t reserved;
  std::uint32_t range_count;
};
static_assert(sizeof(GpaDirectHeader) == 8);

/// Follows the descriptor of a transfer-page packet; TransferPageRange follows `range_count` times.
struct TransferPageHeader {
  std::uint16_t set;
  std::uint16_t reserved;
  std::uint32_t range_count;
};
static_assert(sizeof(TransferPageHeader) == 8);

struct TransferPageRange {
  std::uint32_t byte_count;
  std::uint32_t byte_offset;
};
static_assert(sizeof(TransferPageRange) == 8);

/// After a packet: zero in the low half, the packet's offset in the high half. Readers ignore it.
inline constexpr std::uint32_t kTrailerSize = 8;

/// The frame in front of the messages of channels that are named pipes: integration components, mouse, video.
struct PipeHeader {
  std::uint32_t type;  // 1: data
  std::uint32_t size;
};
static_assert(sizeof(PipeHeader) == 8);
inline constexpr std::uint32_t kPipeData = 1;

}  // namespace bulkhead::abi::vmbus
