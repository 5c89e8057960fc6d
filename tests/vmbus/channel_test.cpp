// SPDX-License-Identifier: Apache-2.0
// Packets through the rings of an open channel, from good guests and bad ones.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/vmbus/fake_guest.hpp"

namespace bulkhead::vmbus {
namespace {

using namespace abi::vmbus;

constexpr ChannelId kFirst{1};
constexpr std::size_t kWrite = 0, kRead = 4, kMask = 8, kPending = 12;

Bytes numbered(std::size_t size, std::uint8_t first = 1) {
  Bytes bytes(size);
  for (auto& byte : bytes) byte = first++;
  return bytes;
}

class ChannelTest : public testing::Test {
 protected:
  void SetUp() override { reopen(4); }

  void reopen(std::size_t pages) {
    if (!guest.bus().find(kFirst)) {
      ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
    }
    guest.connect();
    auto opened = guest.open(kFirst, pages);
    ASSERT_TRUE(opened);
    rings = *opened;
    host = guest.bus().find(kFirst);
  }
  bool request(const Bytes& payload, std::uint64_t transaction) {
    return rings.to_host.write(PacketType::InBand, kCompletionRequested, transaction, {}, payload);
  }

  FakeGuest guest;
  EchoProvider provider;
  GuestChannel rings;
  Channel* host = nullptr;
};

TEST_F(ChannelTest, APacketThatWantsACompletionGetsItWithItsTransaction) {
  const Bytes payload = numbered(40);
  ASSERT_TRUE(request(payload, 0x1234'5678'9abc));
  EXPECT_EQ(guest.signal(kFirst), Acceptance::Taken);
  EXPECT_TRUE(guest.synic().take_event(0, 1)) << "flag number 1 on the processor of the channel";
  const auto answer = rings.from_host.read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->descriptor.type, PacketType::Completion);
  EXPECT_EQ(answer->descriptor.transaction, 0x1234'5678'9abcu);
  EXPECT_EQ(answer->payload, payload);
}

TEST_F(ChannelTest, ATransferPagePacketMayHaveNoRanges) {
  const TransferPageHeader header{.set = 5, .reserved = 0, .range_count = 0};
  ASSERT_TRUE(rings.to_host.write(PacketType::TransferPages, 0, 3, bytes_of(header), {}));
  guest.signal(kFirst);
  ASSERT_EQ(provider.received.size(), 1u);
  EXPECT_EQ(provider.received[0].transfer_set(), 5);
  EXPECT_TRUE(provider.received[0].transfer_ranges().empty());
}

TEST_F(ChannelTest, PacketsOfEverySizeGoThroughTheRingsManyTimesAround) {
  for (unsigned round = 0; round < 2000; ++round) {
    const Bytes payload = numbered(round % 300, static_cast<std::uint8_t>(round));
    ASSERT_TRUE(rings.to_host.write(PacketType::InBand, 0, round, {}, payload));
    guest.signal(kFirst);
    const auto answer = rings.from_host.read();
    ASSERT_TRUE(answer) << round;
    ASSERT_GE(answer->payload.size(), payload.size());
    ASSERT_TRUE(std::ranges::equal(std::span(answer->payload).first(payload.size()), payload)) << round;
  }
}

TEST_F(ChannelTest, TheGuestIsSignalledOnlyWhenItsRingWasEmptyAndItListens) {
  host->send(numbered(8));
  EXPECT_TRUE(guest.synic().take_event(0, 1));
  host->send(numbered(8));
  EXPECT_FALSE(guest.synic().take_event(0, 1)) << "the ring was not empty";
  while (rings.from_host.read()) {
  }
  rings.from_host.set(kMask, 1);
  host->send(numbered(8));
  EXPECT_FALSE(guest.synic().take_event(0, 1)) << "it polls";
}

TEST_F(ChannelTest, TheGuestIsSignalledOnceForAllThatIsGathered) {
  provider.holds_completions = true;
  ASSERT_TRUE(request(numbered(8), 1));
  ASSERT_TRUE(request(numbered(8), 2));
  guest.signal(kFirst);
  ASSERT_TRUE(host->send_completion(1, numbered(8), Notice::Gathered));
  ASSERT_TRUE(host->send_completion(2, numbered(8), Notice::Gathered));
  EXPECT_FALSE(guest.synic().has_events());
  host->signal_gathered();
  EXPECT_TRUE(guest.synic().take_event(0, 1));
  host->signal_gathered();
  EXPECT_FALSE(guest.synic().has_events()) << "nothing was sent since";
}

TEST_F(ChannelTest, AChannelWithoutATargetProcessorIsNeverSignalled) {
  guest.post(ModifyChannel{.header = {MessageType::ModifyChannel, 0}, .channel = kFirst, .target_vp = kNoTargetVp});
  guest.take();
  host->send(numbered(8));
  EXPECT_FALSE(guest.synic().has_events());
}

TEST_F(ChannelTest, AGuestThatWaitsForRoomIsSignalledWhenItHasIt) {
  provider.holds_completions = true;
  std::uint64_t sent = 0;
  while (rings.to_host.write(PacketType::InBand, 0, sent, {}, numbered(1000))) ++sent;
  // Real guests leave low bits set in what they wait for.
  rings.to_host.set(kPending, 2047);
  guest.synic().take_event(0, 1);
  guest.signal(kFirst);
  EXPECT_EQ(provider.received.size(), sent);
  EXPECT_TRUE(guest.synic().take_event(0, 1));
}

TEST_F(ChannelTest, TheHostSaysWhatItWaitsForWhenTheGuestsRingIsFull) {
  const Bytes large = numbered(2000);
  while (host->send(large) == SendStatus::Sent) {
  }
  EXPECT_EQ(host->send(large), SendStatus::Full);
  EXPECT_EQ(rings.from_host.get(kPending), 2000u + 16 + 8);
  ASSERT_TRUE(rings.from_host.read());
  EXPECT_EQ(host->send(large), SendStatus::Sent);
  EXPECT_EQ(rings.from_host.get(kPending), 0u);
  EXPECT_EQ(host->send(numbered(3 * 4096)), SendStatus::Impossible) << "never fits";
}

TEST_F(ChannelTest, AGuestThatNeverTakesItsCompletionsHasABoundedNumberOfRequests) {
  provider.holds_completions = true;
  std::uint64_t sent = 0;
  for (unsigned round = 0; round < 100; ++round) {
    while (request(numbered(8), sent)) ++sent;
    guest.signal(kFirst);
  }
  // 16 + 64 + 8 bytes are set aside for each.
  EXPECT_EQ(host->owed_completions(), (3 * 4096 - 1) / 88u);
  EXPECT_EQ(host->send(numbered(200)), SendStatus::Full) << "the room belongs to the completions";
  provider.complete_held(*host);
  EXPECT_EQ(provider.errors, 0u) << "a completion always fits";
  EXPECT_EQ(host->owed_completions(), 0u);
}

TEST_F(ChannelTest, CompletionsAreOwedOnlyOnce) {
  provider.holds_completions = true;
  ASSERT_TRUE(request(numbered(8), 1));
  guest.signal(kFirst);
  EXPECT_FALSE(host->send_completion(1, numbered(65))) << "larger than the provider said";
  EXPECT_TRUE(host->send_completion(1, numbered(64)));
  EXPECT_FALSE(host->send_completion(1, numbered(64)));
}

TEST_F(ChannelTest, AGpaDirectPacketNamesGuestMemory) {
  const auto pages = guest.allocate(2);
  Bytes header = bytes_of(GpaDirectHeader{.reserved = 0, .range_count = 1});
  for (const Bytes& part :
       {bytes_of(GpaRange{.byte_count = 4096, .byte_offset = 100}), bytes_of(pages[0]), bytes_of(pages[1])}) {
    header.insert(header.end(), part.begin(), part.end());
  }
  ASSERT_TRUE(rings.to_host.write(PacketType::GpaDirect, 0, 9, header, numbered(16)));
  guest.signal(kFirst);
  ASSERT_EQ(provider.received.size(), 1u);
  const auto& ranges = provider.received[0].ranges();
  EXPECT_EQ(ranges.byte_count(), 4096u);
  ASSERT_TRUE(ranges.write(guest.memory(), 3990, numbered(20)));
  EXPECT_EQ((*guest.memory().at(pages[0] * 4096 + 4090, 1))[0], 1);
  EXPECT_EQ((*guest.memory().at(pages[1] * 4096, 1))[0], 7);
}

TEST_F(ChannelTest, PacketsThatCannotBeAreThrownAwayAndTheNextIsRead) {
  const Bytes no_ranges = bytes_of(GpaDirectHeader{.reserved = 0, .range_count = 0});
  const Bytes too_many = bytes_of(GpaDirectHeader{.reserved = 0, .range_count = 0xffff'ffff});
  const Bytes many_sets = bytes_of(TransferPageHeader{.set = 1, .reserved = 0, .range_count = 0x2000'0000});
  rings.to_host.write(PacketType::GpaDirect, kCompletionRequested, 1, no_ranges, {});
  rings.to_host.write(PacketType::GpaDirect, kCompletionRequested, 2, too_many, {});
  rings.to_host.write(PacketType::GpaDirect, 0, 3, {}, {});
  rings.to_host.write(PacketType::TransferPages, 0, 4, many_sets, {});
  rings.to_host.write(PacketType{77}, 0, 5, {}, {});
  request(numbered(8), 6);
  guest.signal(kFirst);
  EXPECT_EQ(provider.errors, 5u);
  EXPECT_EQ(host->owed_completions(), 0u);
  EXPECT_EQ(rings.from_host.read()->descriptor.transaction, 6u);
}

TEST_F(ChannelTest, AnIndexThatCannotBeBreaksTheChannelUntilItIsClosed) {
  for (const std::uint32_t index : {1u, 4u, 3u * 4096, 0x8000'0000u, 0xffff'fff8u}) {
    reopen(4);
    rings.to_host.set(kWrite, index);
    guest.signal(kFirst);
    EXPECT_TRUE(host->is_broken()) << index;
    guest.signal(kFirst);
    reopen(4);
    rings.from_host.set(kRead, index);
    EXPECT_EQ(host->send(numbered(8)), SendStatus::Impossible) << index;
    EXPECT_TRUE(host->is_broken()) << index;
  }
  reopen(4);
  EXPECT_TRUE(request(numbered(8), 1));
  guest.signal(kFirst);
  EXPECT_TRUE(rings.from_host.read());
}

TEST_F(ChannelTest, LengthsThatCannotBeBreakTheChannel) {
  struct Lengths {
    std::uint16_t data_offset, length;
  };
  for (const auto [data_offset, length] : {Lengths{0, 2}, Lengths{1, 2}, Lengths{2, 0}, Lengths{2, 1}, Lengths{3, 2},
                                           Lengths{2, 0xffff}, Lengths{0xffff, 4}, Lengths{2, 9}}) {
    reopen(4);
    request(numbered(8), 1);  // 24 bytes and the trailer
    PacketDescriptor descriptor = part_of<PacketDescriptor>(rings.to_host.copy(0, 16));
    descriptor.data_offset = data_offset;
    descriptor.length = length;
    rings.to_host.put(0, bytes_of(descriptor));
    guest.signal(kFirst);
    EXPECT_TRUE(host->is_broken()) << data_offset << " " << length;
  }
}

TEST_F(ChannelTest, WhatTheGuestDoesToTheHostsIndicesIsOfNoConsequence) {
  request(numbered(8), 1);
  guest.signal(kFirst);
  rings.to_host.set(kRead, 8);      // the host's own
  rings.from_host.set(kWrite, 16);  // likewise
  request(numbered(8), 2);
  guest.signal(kFirst);
  EXPECT_FALSE(host->is_broken());
  EXPECT_EQ(provider.received.size(), 2u);
}

TEST_F(ChannelTest, ASignalOfAClosedChannelIsTakenAndForgotten) {
  guest.close(rings);
  EXPECT_EQ(guest.signal(kFirst), Acceptance::Taken);
  EXPECT_EQ(host->send(numbered(8)), SendStatus::Impossible);
  EXPECT_FALSE(host->receive());
}

TEST_F(ChannelTest, RingsThatChangeWhileTheyAreReadHarmNobody) {
  std::atomic<bool> end = false;
  std::thread vandal([&] {
    std::mt19937 random(1);
    while (!end) {
      const auto offset = static_cast<std::uint32_t>(random() % 512 * 8);
      const Bytes noise = bytes_of((std::uint64_t{random()} << 32 | random()) & 0x0000'0003'001f'000f);
      rings.to_host.put(offset, noise);
      rings.to_host.set(kWrite, static_cast<std::uint32_t>(random() % (3 * 512) * 8));
      rings.from_host.set(kRead, static_cast<std::uint32_t>(random() % (3 * 512) * 8));
    }
  });
  for (unsigned round = 0; round < 3000; ++round) {
    guest.signal(kFirst);
    host->send(numbered(round % 100));
    if (!host->is_broken()) continue;
    // A closing and an opening mend it, as for any guest; the vandal works on the memory of before.
    guest.connect();
    auto opened = guest.open(kFirst);
    ASSERT_TRUE(opened);
    break;
  }
  end = true;
  vandal.join();
}

// VMBus before 2.4: one signal for all channels, and a page of bits that says for which.
class SharedSignals : public testing::Test {
 protected:
  static constexpr std::uint64_t kPage = 0x5000;
  static constexpr abi::ConnectionId kConnection{2};

  void connect(std::uint64_t page) {
    ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
    ASSERT_TRUE(guest.contact(Version::V0_13, 0, page));
    guest.request_offers();
    rings = *guest.open(kFirst, 4, 0);
  }
  void set_bit_to_host(unsigned channel) { (*guest.memory().at(kPage + 2048 + channel / 8, 1))[0] |= 1 << channel % 8; }
  bool send() { return rings.to_host.write(PacketType::InBand, kCompletionRequested, 7, {}, numbered(8)); }

  FakeGuest guest;
  EchoProvider provider;
  GuestChannel rings;
};

TEST_F(SharedSignals, GoThroughTheInterruptPageBothWays) {
  connect(kPage);
  ASSERT_TRUE(send());
  set_bit_to_host(1);
  EXPECT_EQ(guest.bus().event_signaled(kConnection, 0), Acceptance::Taken);
  EXPECT_TRUE(rings.from_host.read());
  EXPECT_EQ((*guest.memory().at(kPage + 2048, 1))[0], 0) << "the host has taken the bit";
  EXPECT_EQ((*guest.memory().at(kPage, 1))[0], 1 << 1) << "the guest's bit for channel 1";
  EXPECT_TRUE(guest.synic().take_event(0, 0));
  EXPECT_FALSE(guest.synic().has_events());
}

TEST_F(SharedSignals, ABitOfNoChannelDoesNothing) {
  connect(kPage);
  ASSERT_TRUE(send());
  set_bit_to_host(2);
  set_bit_to_host(16383);
  EXPECT_EQ(guest.bus().event_signaled(kConnection, 0), Acceptance::Taken);
  EXPECT_FALSE(rings.from_host.read());
}

TEST_F(SharedSignals, APageThatIsNotThereHasNoBits) {
  for (const std::uint64_t page : {std::uint64_t{1} << 40, ~std::uint64_t{0}, kPage + 8}) {
    FakeGuest other;
    ASSERT_TRUE(other.bus().offer(test_offer(), provider));
    ASSERT_TRUE(other.contact(Version::V0_13, 0, page));
    other.request_offers();
    auto channel = *other.open(kFirst, 4, 0);
    ASSERT_TRUE(channel.to_host.write(PacketType::InBand, kCompletionRequested, 7, {}, numbered(8)));
    EXPECT_EQ(other.bus().event_signaled(kConnection, 0), Acceptance::Taken);
    EXPECT_FALSE(channel.from_host.read());
    // By the channel's own connection it is heard all the same.
    EXPECT_EQ(other.signal(kFirst), Acceptance::Taken);
    EXPECT_TRUE(channel.from_host.read());
    EXPECT_FALSE(other.synic().has_events());
  }
}

TEST_F(SharedSignals, LaterVersionsHaveNone) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect(Version::V2_4);
  EXPECT_EQ(guest.bus().event_signaled(kConnection, 0), Acceptance::NoSuchConnection);
}

}  // namespace
}  // namespace bulkhead::vmbus
