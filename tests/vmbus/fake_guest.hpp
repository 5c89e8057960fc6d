// SPDX-License-Identifier: Apache-2.0
//
// A guest for tests of the bus: it speaks the guest's side of VMBus, over the same memory, and can also break it.
// Its rings are written after abi/vmbus_ring.hpp alone and share no code with the host's.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "abi/vmbus.hpp"
#include "abi/vmbus_ring.hpp"
#include "engine/guest_memory.hpp"
#include "vmbus/bus.hpp"

namespace bulkhead::vmbus {

using Bytes = std::vector<std::uint8_t>;

template <typename T>
Bytes bytes_of(const T& value) {
  Bytes bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// The fixed part of a message; fails the program, not the test, if it is too short: ask for the size first.
template <typename T>
T part_of(const Bytes& bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
  return value;
}

/// The guest's SynIC: one VMBus message slot for each VP, and the event flags that were set.
class FakeSynic final : public SynicPort {
 public:
  explicit FakeSynic(std::uint32_t vp_count) : slots_(vp_count) {}

  PostStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) override;
  void signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) override;

  std::optional<abi::SynicMessage> take(std::uint32_t vp) { return std::exchange(slots_.at(vp), std::nullopt); }
  /// Whether the flag was set since the last call.
  bool take_event(std::uint32_t vp, std::uint16_t flag) { return events_.erase({vp, flag}) != 0; }
  bool has_events() const { return !events_.empty(); }

  std::function<void()> on_event = [] {};  // what a guest does that runs at once

 private:
  std::vector<std::optional<abi::SynicMessage>> slots_;
  std::set<std::pair<std::uint32_t, std::uint16_t>> events_;
};

/// One direction of a channel, from the guest's side.
class GuestRing {
 public:
  GuestRing() = default;
  GuestRing(engine::GuestMemory& memory, std::vector<std::uint64_t> pages)
      : memory_(&memory), pages_(std::move(pages)) {}

  std::uint32_t size() const { return static_cast<std::uint32_t>((pages_.size() - 1) * 4096); }
  std::uint32_t get(std::size_t control_offset) const;
  void set(std::size_t control_offset, std::uint32_t value);
  std::uint32_t free() const;
  Bytes copy(std::uint32_t offset, std::size_t count) const;
  void put(std::uint32_t offset, std::span<const std::uint8_t> bytes);

  /// False: no room.
  bool write(abi::vmbus::PacketType type, std::uint16_t flags, std::uint64_t transaction,
             std::span<const std::uint8_t> header, std::span<const std::uint8_t> payload);
  struct Read {
    abi::vmbus::PacketDescriptor descriptor;
    Bytes header;
    Bytes payload;
  };
  std::optional<Read> read();

 private:
  std::uint8_t* at(std::size_t page, std::size_t offset) const;

  engine::GuestMemory* memory_ = nullptr;
  std::vector<std::uint64_t> pages_;
};

struct GuestChannel {
  abi::vmbus::ChannelId id{0};
  abi::vmbus::GpadlId gpadl{0};
  GuestRing to_host;
  GuestRing from_host;
};

class FakeGuest {
 public:
  explicit FakeGuest(std::uint32_t vp_count = 2);

  engine::GuestMemory& memory() { return *memory_; }
  FakeSynic& synic() { return synic_; }
  Bus& bus() { return bus_; }

  template <typename Message>
  Acceptance post(const Message& message) {
    return post_bytes(bytes_of(message));
  }
  Acceptance post_bytes(const Bytes& message, abi::ConnectionId through = abi::vmbus::kMessageConnection) {
    return bus_.message_posted(through, abi::SynicMessageType::VmbusChannel, message);
  }
  Acceptance signal(abi::vmbus::ChannelId channel) {
    return bus_.event_signaled(abi::ConnectionId{abi::vmbus::kEventConnectionBase | std::to_underlying(channel)}, 0);
  }

  /// The next message for the VP, taken out of its slot.
  std::optional<Bytes> take(std::uint32_t vp = 0);
  /// The next message if it is of this kind.
  template <typename Message>
  std::optional<Message> take_as(abi::vmbus::MessageType type, std::uint32_t vp = 0) {
    auto bytes = take(vp);
    if (!bytes || bytes->size() != sizeof(Message)) return std::nullopt;
    if (part_of<abi::vmbus::MessageHeader>(*bytes).type != type) return std::nullopt;
    return part_of<Message>(*bytes);
  }

  /// INITIATE_CONTACT and its answer; whether the version was accepted. Before 2.4 with an interrupt page, if one is given.
  bool contact(abi::vmbus::Version version, std::uint32_t vp = 0, std::uint64_t interrupt_page = 0);
  /// REQUEST_OFFERS and what it brings.
  std::vector<abi::vmbus::OfferChannel> request_offers();
  /// contact and request_offers.
  std::vector<abi::vmbus::OfferChannel> connect(abi::vmbus::Version version = abi::vmbus::Version::V5_3);

  /// Guest pages nobody else uses, in an order in which no two are neighbours.
  std::vector<std::uint64_t> allocate(std::size_t count);
  /// Sends a list of one range in as many messages as it takes; the status of the answer, if there was one.
  std::optional<std::uint32_t> lend(abi::vmbus::ChannelId channel, abi::vmbus::GpadlId gpadl,
                                    std::span<const std::uint64_t> pages);
  /// Lends rings of `pages` pages each and opens the channel. Nothing: the host refused.
  std::optional<GuestChannel> open(abi::vmbus::ChannelId channel, std::size_t pages = 4, std::uint32_t vp = 0);
  void close(const GuestChannel& channel);
  bool take_back(const GuestChannel& channel);

 private:
  std::unique_ptr<engine::GuestMemory> memory_;
  FakeSynic synic_;
  Bus bus_;
  std::uint64_t next_page_ = 16;
  std::uint32_t next_gpadl_ = 0xe1e10;
};

/// Answers each packet with its own payload: with a completion if one was asked for, else with a packet.
class EchoProvider final : public ChannelProvider {
 public:
  std::size_t completion_size() const override { return 64; }
  Result<> open(Channel& channel) override;
  void readable(Channel& channel) override;
  void close(Channel& channel) override;
  void gpadl_wanted(Channel& channel, abi::vmbus::GpadlId gpadl) override;
  void restored(Channel&) override { ++restores; }

  /// Completes what was held back.
  void complete_held(Channel& channel);

  bool refuses = false;
  bool holds_completions = false;  // keeps requests until complete_held
  bool closes_later = false;       // does not answer close
  unsigned opens = 0, closes = 0, errors = 0, restores = 0;
  std::vector<Packet> received;
  std::vector<std::pair<std::uint64_t, Bytes>> held;
  std::vector<abi::vmbus::GpadlId> wanted;
};

/// An offer that differs from others by `number`.
OfferParameters test_offer(std::uint32_t number = 1);

}  // namespace bulkhead::vmbus
