// SPDX-License-Identifier: Apache-2.0
// A bus that is saved goes on elsewhere as if nothing had happened.
#include <gtest/gtest.h>

#include "tests/vmbus/fake_guest.hpp"

namespace bulkhead::vmbus {
namespace {

using namespace abi::vmbus;

constexpr ChannelId kFirst{1};

class SavedBusTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
    guest.connect();
    rings = *guest.open(kFirst);
  }

  /// Another bus over the same guest, with the same offer.
  std::unique_ptr<Bus> other_bus(std::uint32_t instance = 1) {
    auto bus = std::make_unique<Bus>(guest.memory(), guest.synic(), 2);
    EXPECT_TRUE(bus->offer(test_offer(instance), other_provider));
    return bus;
  }

  FakeGuest guest;
  EchoProvider provider;
  EchoProvider other_provider;
  GuestChannel rings;
};

TEST_F(SavedBusTest, AnOpenChannelGoesOn) {
  provider.holds_completions = true;
  ASSERT_TRUE(rings.to_host.write(PacketType::InBand, kCompletionRequested, 1, {}, Bytes(8)));
  guest.signal(kFirst);
  const auto saved = guest.bus().save();
  const auto parsed = state::SavedUnit::parse(saved.serialize());
  ASSERT_TRUE(parsed);

  auto bus = other_bus();
  const auto restored = bus->restore(*parsed);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(other_provider.restores, 1u);
  EXPECT_EQ(bus->save(), saved);
  EXPECT_TRUE(bus->find(kFirst)->send_completion(1, Bytes(8))) << "the completion is still owed";
  EXPECT_TRUE(rings.from_host.read());
  ASSERT_TRUE(rings.to_host.write(PacketType::InBand, 0, 2, {}, Bytes(16, 3)));
  EXPECT_EQ(bus->event_signaled(abi::ConnectionId{0x2001}, 0), Acceptance::Taken);
  EXPECT_EQ(rings.from_host.read()->payload, Bytes(16, 3));
}

TEST_F(SavedBusTest, WaitingMessagesAndHalfSentListsAndSubChannelsAreKept) {
  ASSERT_TRUE(guest.bus().find(kFirst)->offer_sub_channels(2));
  const auto pages = guest.allocate(100);
  Bytes header = bytes_of(GpadlHeader{.header = {MessageType::GpadlHeader, 0},
                                      .channel = kFirst,
                                      .gpadl = GpadlId{9},
                                      .range_data_size = 808,
                                      .range_count = 1});
  header.resize(header.size() + 27 * 8);
  guest.post_bytes(header);
  const auto saved = guest.bus().save();
  auto bus = other_bus();
  const auto restored = bus->restore(saved);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(bus->messages().size(), 1u);
  EXPECT_EQ(bus->find(ChannelId{3})->sub_channel_index(), 2);
  EXPECT_EQ(bus->save(), saved);
}

TEST_F(SavedBusTest, AMachineWithOtherDevicesDoesNotTakeIt) {
  const auto saved = guest.bus().save();
  auto bus = other_bus(2);
  const auto before = bus->save();
  EXPECT_FALSE(bus->restore(saved));
  EXPECT_EQ(bus->save(), before);
}

TEST_F(SavedBusTest, EveryByteChangedIsAnErrorOrAStateButNeverACrash) {
  const auto bytes = guest.bus().save().serialize();
  for (std::size_t index = 0; index < bytes.size(); ++index) {
    auto changed = bytes;
    changed[index] ^= 0xff;
    const auto parsed = state::SavedUnit::parse(changed);
    if (!parsed) continue;
    auto bus = other_bus();
    if (bus->restore(*parsed)) bus->event_signaled(abi::ConnectionId{0x2001}, 0);
  }
}

TEST_F(SavedBusTest, InspectionShowsTheConnectionAndTheChannel) {
  state::Inspection node;
  guest.bus().inspect(node);
  ASSERT_FALSE(node.children().empty());
  const auto& control = node.children()[0].second;
  const auto version = std::ranges::find(control.values(), "version", [](const auto& value) { return value.first; });
  ASSERT_NE(version, control.values().end());
  EXPECT_EQ(std::get<std::string>(version->second), "5.3");
}

}  // namespace
}  // namespace bulkhead::vmbus
