// SPDX-License-Identifier: Apache-2.0
#include "vmbus/packet.hpp"

#include <fmt/format.h>

#include <cstring>
#include <utility>

namespace bulkhead::vmbus {

using namespace abi::vmbus;

Result<Packet> Packet::parse(std::vector<std::uint8_t> bytes) {
  PacketDescriptor descriptor;
  if (bytes.size() < sizeof descriptor) return fail("a packet is shorter than its descriptor");
  std::memcpy(&descriptor, bytes.data(), sizeof descriptor);
  Packet packet;
  packet.bytes_ = std::move(bytes);
  packet.type_ = descriptor.type;
  packet.completion_requested_ = (descriptor.flags & kCompletionRequested) != 0;
  packet.transaction_ = descriptor.transaction;
  packet.payload_offset_ = descriptor.data_offset * std::size_t{8};
  if (packet.payload_offset_ < sizeof descriptor || packet.payload_offset_ > packet.bytes_.size()) {
    return fail("a packet's data begins outside of it");
  }
  const auto header =
      std::span<const std::uint8_t>(packet.bytes_).first(packet.payload_offset_).subspan(sizeof descriptor);
  Result<> parsed;
  switch (descriptor.type) {
    case PacketType::InBand:
    case PacketType::Completion: break;
    case PacketType::GpaDirect: parsed = packet.parse_gpa_direct(header); break;
    case PacketType::TransferPages: parsed = packet.parse_transfer_pages(header); break;
    default: return fail(fmt::format("packet type {} is unknown", std::to_underlying(descriptor.type)));
  }
  if (!parsed) return std::unexpected(parsed.error());
  return packet;
}

Result<> Packet::parse_gpa_direct(std::span<const std::uint8_t> header) {
  GpaDirectHeader head;
  if (header.size() < sizeof head) return fail("a GPA-direct packet has no header");
  std::memcpy(&head, header.data(), sizeof head);
  auto ranges = GuestRanges::parse(header.subspan(sizeof head), head.range_count);
  if (!ranges) return std::unexpected(ranges.error());
  ranges_ = std::move(*ranges);
  return {};
}

Result<> Packet::parse_transfer_pages(std::span<const std::uint8_t> header) {
  TransferPageHeader head;
  if (header.size() < sizeof head) return fail("a transfer-page packet has no header");
  std::memcpy(&head, header.data(), sizeof head);
  header = header.subspan(sizeof head);
  if (head.range_count > header.size() / sizeof(TransferPageRange)) {
    return fail("a transfer-page packet lacks ranges");
  }
  transfer_set_ = head.set;
  transfer_ranges_.resize(head.range_count);
  if (transfer_ranges_.empty()) return {};
  std::memcpy(transfer_ranges_.data(), header.data(), head.range_count * sizeof(TransferPageRange));
  return {};
}

}  // namespace bulkhead::vmbus
