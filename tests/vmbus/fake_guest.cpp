// SPDX-License-Identifier: Apache-2.0
#include "tests/vmbus/fake_guest.hpp"

#include <algorithm>
#include <cstdlib>

namespace bulkhead::vmbus {

using namespace abi::vmbus;

PostStatus FakeSynic::post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) {
  if (std::to_underlying(vp) >= slots_.size() || sint != kVmbusSint) return PostStatus::Refused;
  auto& slot = slots_[std::to_underlying(vp)];
  if (slot) {
    slot->flags |= abi::kMessagePending;
    return PostStatus::Busy;
  }
  slot = message;
  return PostStatus::Delivered;
}

void FakeSynic::signal_event(abi::VpIndex vp, abi::Sint, std::uint16_t flag) {
  events_.insert({std::to_underlying(vp), flag});
  on_event();
}

std::uint8_t* GuestRing::at(std::size_t page, std::size_t offset) const {
  return memory_->at(pages_[page] * 4096, 4096)->data() + offset;
}

std::uint32_t GuestRing::get(std::size_t control_offset) const {
  std::uint32_t value = 0;
  std::memcpy(&value, at(0, control_offset), sizeof value);
  return value;
}

void GuestRing::set(std::size_t control_offset, std::uint32_t value) {
  std::memcpy(at(0, control_offset), &value, sizeof value);
}

std::uint32_t GuestRing::free() const {
  const std::uint32_t in = get(0), out = get(4);
  return out > in ? out - in - 8 : size() - in + out - 8;
}

Bytes GuestRing::copy(std::uint32_t offset, std::size_t count) const {
  Bytes bytes;
  for (std::size_t index = 0; index < count; ++index) {
    const std::size_t position = (offset + index) % size();
    bytes.push_back(*at(1 + position / 4096, position % 4096));
  }
  return bytes;
}

void GuestRing::put(std::uint32_t offset, std::span<const std::uint8_t> bytes) {
  for (std::size_t index = 0; index < bytes.size(); ++index) {
    const std::size_t position = (offset + index) % size();
    *at(1 + position / 4096, position % 4096) = bytes[index];
  }
}

bool GuestRing::write(PacketType type, std::uint16_t flags, std::uint64_t transaction,
                      std::span<const std::uint8_t> header, std::span<const std::uint8_t> payload) {
  const std::size_t length = 16 + header.size() + (payload.size() + 7) / 8 * 8;
  if (length + 8 > free()) return false;
  const PacketDescriptor descriptor{.type = type,
                                    .data_offset = static_cast<std::uint16_t>(2 + header.size() / 8),
                                    .length = static_cast<std::uint16_t>(length / 8),
                                    .flags = flags,
                                    .transaction = transaction};
  Bytes packet = bytes_of(descriptor);
  packet.insert(packet.end(), header.begin(), header.end());
  packet.insert(packet.end(), payload.begin(), payload.end());
  packet.resize(length + 8);
  const std::uint32_t in = get(0);
  put(in, packet);
  set(0, static_cast<std::uint32_t>((in + packet.size()) % size()));
  return true;
}

std::optional<GuestRing::Read> GuestRing::read() {
  const std::uint32_t in = get(0), out = get(4);
  if (in == out) return std::nullopt;
  Read packet{};
  packet.descriptor = part_of<PacketDescriptor>(copy(out, sizeof(PacketDescriptor)));
  const std::uint32_t length = packet.descriptor.length * 8u, offset = packet.descriptor.data_offset * 8u;
  packet.header = copy(out + 16, offset - 16);
  packet.payload = copy(out + offset, length - offset);
  set(4, (out + length + 8) % size());
  return packet;
}

FakeGuest::FakeGuest(std::uint32_t vp_count)
    : memory_([] {
        const engine::GuestMemory::Range range{0, 32u << 20};
        return std::move(*engine::GuestMemory::allocate({&range, 1}));
      }()),
      synic_(vp_count),
      bus_(*memory_, synic_, vp_count) {}

std::optional<Bytes> FakeGuest::take(std::uint32_t vp) {
  auto message = synic_.take(vp);
  if (!message) return std::nullopt;
  Bytes bytes(message->payload, message->payload + message->payload_size);
  if (message->flags & abi::kMessagePending) bus_.slot_freed();
  return bytes;
}

bool FakeGuest::contact(Version version, std::uint32_t vp, std::uint64_t interrupt_page) {
  InitiateContact message{};
  message.header.type = MessageType::InitiateContact;
  message.version = version;
  message.target_vp = abi::VpIndex{vp};
  message.target_sint = version >= Version::V5_0 ? kVmbusSint : abi::Sint{0};
  if (version < Version::V2_4) std::memcpy(&message.target_sint, &interrupt_page, sizeof interrupt_page);
  post_bytes(bytes_of(message), version >= Version::V5_0 ? kMessageConnection : kMessageConnectionBefore5_0);
  const auto response = take_as<VersionResponse>(MessageType::VersionResponse, version >= Version::V3_0 ? vp : 0);
  return response && response->supported != 0;
}

std::vector<OfferChannel> FakeGuest::request_offers() {
  post(EmptyMessage{{MessageType::RequestOffers, 0}});
  std::vector<OfferChannel> offers;
  while (auto message = take()) {
    if (part_of<MessageHeader>(*message).type != MessageType::OfferChannel) break;
    offers.push_back(part_of<OfferChannel>(*message));
  }
  return offers;
}

std::vector<OfferChannel> FakeGuest::connect(Version version) {
  if (!contact(version)) return {};
  return request_offers();
}

std::vector<std::uint64_t> FakeGuest::allocate(std::size_t count) {
  std::vector<std::uint64_t> pages;
  for (std::size_t index = 0; index < count; ++index) pages.push_back(next_page_ + 2 * (count - index));
  next_page_ += 2 * count + 2;
  for (const std::uint64_t page : pages) std::ranges::fill(*memory_->at(page * 4096, 4096), std::uint8_t{0});
  return pages;
}

std::optional<std::uint32_t> FakeGuest::lend(ChannelId channel, GpadlId gpadl, std::span<const std::uint64_t> pages) {
  Bytes data = bytes_of(GpaRange{.byte_count = static_cast<std::uint32_t>(pages.size() * 4096), .byte_offset = 0});
  for (const std::uint64_t page : pages) {
    const Bytes number = bytes_of(page);
    data.insert(data.end(), number.begin(), number.end());
  }
  Bytes message = bytes_of(GpadlHeader{.header = {MessageType::GpadlHeader, 0},
                                       .channel = channel,
                                       .gpadl = gpadl,
                                       .range_data_size = static_cast<std::uint16_t>(data.size()),
                                       .range_count = 1});
  std::size_t sent = std::min<std::size_t>(data.size(), 27 * 8);
  message.insert(message.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(sent));
  post_bytes(message);
  for (std::uint32_t number = 1; sent < data.size(); ++number) {
    message = bytes_of(GpadlBody{.header = {MessageType::GpadlBody, 0}, .message_number = number, .gpadl = gpadl});
    const std::size_t count = std::min<std::size_t>(data.size() - sent, 28 * 8);
    message.insert(message.end(), data.begin() + static_cast<std::ptrdiff_t>(sent),
                   data.begin() + static_cast<std::ptrdiff_t>(sent + count));
    sent += count;
    post_bytes(message);
  }
  const auto created = take_as<GpadlCreated>(MessageType::GpadlCreated);
  if (!created || created->gpadl != gpadl || created->channel != channel) return std::nullopt;
  return created->status;
}

std::optional<GuestChannel> FakeGuest::open(ChannelId id, std::size_t pages, std::uint32_t vp) {
  const auto ring = allocate(2 * pages);
  GuestChannel channel{.id = id, .gpadl = GpadlId{next_gpadl_++}, .to_host = {}, .from_host = {}};
  const auto middle = ring.begin() + static_cast<std::ptrdiff_t>(pages);
  channel.to_host = GuestRing(*memory_, {ring.begin(), middle});
  channel.from_host = GuestRing(*memory_, {middle, ring.end()});
  if (lend(id, channel.gpadl, ring) != kStatusSuccess) return std::nullopt;
  OpenChannel message{};
  message.header.type = MessageType::OpenChannel;
  message.channel = id;
  message.open_id = 7;
  message.ring_gpadl = channel.gpadl;
  message.target_vp = abi::VpIndex{vp};
  message.downstream_page_offset = static_cast<std::uint32_t>(pages);
  post(message);
  const auto result = take_as<OpenChannelResult>(MessageType::OpenChannelResult);
  if (!result || result->status != kStatusSuccess || result->open_id != 7) return std::nullopt;
  return channel;
}

void FakeGuest::close(const GuestChannel& channel) {
  post(ChannelMessage{.header = {MessageType::CloseChannel, 0}, .channel = channel.id});
}

bool FakeGuest::take_back(const GuestChannel& channel) {
  post(GpadlTeardown{.header = {MessageType::GpadlTeardown, 0}, .channel = channel.id, .gpadl = channel.gpadl});
  const auto done = take_as<GpadlTorndown>(MessageType::GpadlTorndown);
  return done && done->gpadl == channel.gpadl;
}

Result<> EchoProvider::open(Channel&) {
  if (refuses) return fail("the test refuses");
  ++opens;
  return {};
}

void EchoProvider::readable(Channel& channel) {
  for (;;) {
    auto packet = channel.receive();
    if (!packet) {
      ++errors;
      if (channel.is_broken()) return;
      continue;
    }
    if (!*packet) return;
    const auto payload = (*packet)->payload().first(std::min<std::size_t>((*packet)->payload().size(), 64));
    if (!(*packet)->completion_requested()) {
      channel.send((*packet)->payload());
    } else if (holds_completions) {
      held.emplace_back((*packet)->transaction(), Bytes(payload.begin(), payload.end()));
    } else if (!channel.send_completion((*packet)->transaction(), payload)) {
      ++errors;
    }
    if (received.size() < 1000) received.push_back(std::move(**packet));
  }
}

void EchoProvider::complete_held(Channel& channel) {
  for (const auto& [transaction, payload] : std::exchange(held, {})) {
    if (!channel.send_completion(transaction, payload)) ++errors;
  }
}

void EchoProvider::close(Channel& channel) {
  ++closes;
  if (!closes_later) channel.close_finished();
}

void EchoProvider::gpadl_wanted(Channel&, GpadlId gpadl) { wanted.push_back(gpadl); }

OfferParameters test_offer(std::uint32_t number) {
  OfferParameters offer;
  offer.interface_type = abi::Guid::of("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
  offer.instance = abi::Guid::of("00000000-0000-8899-0000-000000000000");
  offer.instance.first = number;
  return offer;
}

}  // namespace bulkhead::vmbus
