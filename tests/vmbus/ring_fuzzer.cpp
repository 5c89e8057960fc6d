// SPDX-License-Identifier: Apache-2.0
// The contents of a channel's rings, all of them the fuzzer's: control words and data of both directions.
#include <algorithm>

#include "tests/vmbus/fake_guest.hpp"

namespace {

using namespace bulkhead;
using namespace bulkhead::vmbus;

constexpr abi::vmbus::ChannelId kFirst{1};

void check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static FakeGuest guest;
  static EchoProvider provider;
  static const bool offered = guest.bus().offer(test_offer(1), provider).has_value();
  check(offered);
  // A ring that was broken before is mended by a new connection; the pages are the same each time.
  guest.connect();
  static const auto pages = guest.allocate(6);
  for (const auto page : pages) std::ranges::fill(*guest.memory().at(page * 4096, 4096), std::uint8_t{0});
  check(guest.lend(kFirst, abi::vmbus::GpadlId{1}, pages) == abi::vmbus::kStatusSuccess);
  GuestRing to_host(guest.memory(), {pages.begin(), pages.begin() + 3});
  GuestRing from_host(guest.memory(), {pages.begin() + 3, pages.end()});
  std::span<const std::uint8_t> input(data, size);
  abi::vmbus::OpenChannel message{};
  message.header.type = abi::vmbus::MessageType::OpenChannel;
  message.channel = kFirst;
  message.ring_gpadl = abi::vmbus::GpadlId{1};
  message.downstream_page_offset = 3;
  guest.post(message);
  guest.take();
  provider.received.clear();
  provider.holds_completions = !input.empty() && (input.front() & 1);
  Channel* channel = guest.bus().find(kFirst);
  while (input.size() >= 4) {
    const std::uint8_t what = input[0], where = input[1];
    const std::size_t count = std::min<std::size_t>(input.size() - 2, 2 + what / 2);
    const auto bytes = input.subspan(2, count);
    input = input.subspan(2 + count);
    GuestRing& ring = what & 1 ? to_host : from_host;
    switch (where % 4) {
      case 0: {
        std::uint32_t value = 0;
        std::copy_n(bytes.begin(), std::min<std::size_t>(bytes.size(), 4),
                    static_cast<std::uint8_t*>(static_cast<void*>(&value)));
        ring.set(where / 4 % 4 * 4, where & 0x80 ? value : value % (2 * 4096) / 8 * 8);
        break;
      }
      case 1: ring.put(where / 4 * 128u, bytes); break;
      case 2: {
        const auto half = bytes.size() / 16 * 8;
        static constexpr abi::vmbus::PacketType kTypes[] = {
            abi::vmbus::PacketType::InBand, abi::vmbus::PacketType::GpaDirect, abi::vmbus::PacketType::TransferPages,
            abi::vmbus::PacketType::Completion};
        const auto in = to_host.get(0), out = to_host.get(4);
        if (in % 8 || out % 8 || in >= to_host.size() || out >= to_host.size()) break;
        to_host.write(kTypes[where / 4 % 4], where >> 7, where, bytes.first(half), bytes.subspan(half));
        break;
      }
      case 3:
        if (where & 0x80)
          channel->send(bytes);
        else
          provider.complete_held(*channel);
        break;
    }
    guest.signal(kFirst);
    // Whatever was named as guest memory can be used without leaving it.
    for (const auto& packet : provider.received) {
      Bytes buffer(std::min<std::uint64_t>(packet.ranges().byte_count(), 1u << 16));
      packet.ranges().read(guest.memory(), 0, buffer);
    }
    check(provider.held.size() <= from_host.size() / 24);
    provider.received.clear();
  }
  return 0;
}
