// SPDX-License-Identifier: Apache-2.0
//
// A packet that the guest has sent, taken apart. It lies in the host's own memory: nothing changes it any more.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "abi/vmbus_ring.hpp"
#include "error/error.hpp"
#include "vmbus/guest_ranges.hpp"

namespace bulkhead::vmbus {

class Packet {
 public:
  /// From the bytes that IncomingRing::peek gave. Errors: an unknown type, a header or a range list that is not whole.
  static Result<Packet> parse(std::vector<std::uint8_t> bytes);

  abi::vmbus::PacketType type() const { return type_; }
  bool completion_requested() const { return completion_requested_; }
  std::uint64_t transaction() const { return transaction_; }
  /// With the padding to 8 bytes, which cannot be told from it.
  std::span<const std::uint8_t> payload() const { return std::span(bytes_).subspan(payload_offset_); }
  /// All of it, as `parse` took it.
  std::span<const std::uint8_t> bytes() const { return bytes_; }

  /// Of a GPA-direct packet: the guest memory that goes with it.
  const GuestRanges& ranges() const { return ranges_; }
  /// Of a transfer-page packet: parts of a GPADL that both sides know as `transfer_set`.
  std::uint16_t transfer_set() const { return transfer_set_; }
  std::span<const abi::vmbus::TransferPageRange> transfer_ranges() const { return transfer_ranges_; }

 private:
  Packet() = default;
  Result<> parse_gpa_direct(std::span<const std::uint8_t> header);
  Result<> parse_transfer_pages(std::span<const std::uint8_t> header);

  std::vector<std::uint8_t> bytes_;
  abi::vmbus::PacketType type_ = abi::vmbus::PacketType::InBand;
  bool completion_requested_ = false;
  std::uint64_t transaction_ = 0;
  std::size_t payload_offset_ = 0;
  GuestRanges ranges_;
  std::uint16_t transfer_set_ = 0;
  std::vector<abi::vmbus::TransferPageRange> transfer_ranges_;
};

}  // namespace bulkhead::vmbus
