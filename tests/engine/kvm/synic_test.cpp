// SPDX-License-Identifier: Apache-2.0
// What the engine does for the SynICs of a guest on KVM, without a kernel below: pages, slots, flags.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "engine/kvm/kvm_synic.hpp"

namespace bulkhead::engine::kvm {
namespace {

constexpr std::uint64_t kMessages = 0x5000, kFlags = 0x6000;
constexpr abi::Sint kSint{2};

class Listener final : public SynicListener {
 public:
  std::uint16_t message_posted(abi::ConnectionId, abi::SynicMessageType, std::span<const std::uint8_t>) override {
    return 0;
  }
  std::uint16_t event_signaled(abi::ConnectionId connection, std::uint16_t flag) override {
    signaled = {connection, flag};
    return 0;
  }
  void message_slot_freed(abi::VpIndex vp) override { freed.push_back(vp); }

  std::pair<abi::ConnectionId, std::uint16_t> signaled{};
  std::vector<abi::VpIndex> freed;
};

class SynicTest : public testing::Test {
 protected:
  SynicTest() {
    const GuestMemory::Range range{0, 1 << 20};
    memory = std::move(*GuestMemory::allocate({&range, 1}));
    synic.set_memory(*memory);
    synic.set_listener(&listener);
    message.type = abi::SynicMessageType::VmbusChannel;
    message.payload_size = 4;
    message.payload[0] = 0xaa;
  }

  void enable(std::uint32_t vp = 0) { synic.registers_written(vp, 1, kMessages | 1, kFlags | 1); }
  abi::SynicMessage slot() {
    abi::SynicMessage copy;
    std::memcpy(&copy, memory->at(kMessages + 2 * 256, 256)->data(), sizeof copy);
    return copy;
  }

  std::unique_ptr<GuestMemory> memory;
  Listener listener;
  KvmSynic synic{-1, 2, 24};
  abi::SynicMessage message{};
};

TEST_F(SynicTest, AMessageWaitsUntilTheSynicIsOn) {
  EXPECT_EQ(synic.post_message(abi::VpIndex{0}, kSint, message), SynicStatus::Busy);
  enable();
  EXPECT_EQ(listener.freed, std::vector{abi::VpIndex{0}}) << "now it may be tried again";
  EXPECT_EQ(synic.post_message(abi::VpIndex{0}, kSint, message), SynicStatus::Delivered);
  EXPECT_EQ(slot().type, abi::SynicMessageType::VmbusChannel);
  EXPECT_EQ(slot().payload[0], 0xaa);
}

TEST_F(SynicTest, AFullSlotSaysThatMoreWaits) {
  enable();
  synic.post_message(abi::VpIndex{0}, kSint, message);
  EXPECT_EQ(slot().flags, 0);
  EXPECT_EQ(synic.post_message(abi::VpIndex{0}, kSint, message), SynicStatus::Busy);
  EXPECT_EQ(slot().flags, abi::kMessagePending);
  std::memset(memory->at(kMessages + 2 * 256, 4)->data(), 0, 4);
  synic.end_of_message(0);
  EXPECT_EQ(listener.freed.size(), 2u);
  EXPECT_EQ(synic.post_message(abi::VpIndex{0}, kSint, message), SynicStatus::Delivered);
  EXPECT_EQ(slot().flags, 0);
}

TEST_F(SynicTest, WhatWasInAPageBeforeItWasSwitchedOnIsNoMessageAndNoEvent) {
  std::memset(memory->at(kMessages, 8192)->data(), 0xff, 8192);
  enable();
  EXPECT_EQ(slot().type, abi::SynicMessageType::None);
  EXPECT_EQ((*memory->at(kFlags, 1))[0], 0);
  synic.post_message(abi::VpIndex{0}, kSint, message);
  enable();
  EXPECT_EQ(slot().type, abi::SynicMessageType::VmbusChannel) << "writing the same again changes nothing";
}

TEST_F(SynicTest, AnEventIsABitOfItsSint) {
  EXPECT_EQ(synic.signal_event(abi::VpIndex{0}, kSint, 9), SynicStatus::Busy);
  enable();
  EXPECT_EQ(synic.signal_event(abi::VpIndex{0}, kSint, 9), SynicStatus::Delivered);
  EXPECT_EQ((*memory->at(kFlags + 2 * 256 + 1, 1))[0], 2);
  EXPECT_EQ(synic.signal_event(abi::VpIndex{0}, kSint, 2048), SynicStatus::Refused);
  EXPECT_EQ(synic.signal_event(abi::VpIndex{2}, kSint, 9), SynicStatus::Refused);
}

TEST_F(SynicTest, PagesOutsideOfTheGuestsMemoryAreAcceptedAndHoldNothing) {
  synic.registers_written(0, 1, (std::uint64_t{1} << 40) | 1, ~std::uint64_t{0});
  EXPECT_EQ(synic.post_message(abi::VpIndex{0}, kSint, message), SynicStatus::Busy);
  EXPECT_EQ(synic.signal_event(abi::VpIndex{0}, kSint, 1), SynicStatus::Busy);
}

TEST_F(SynicTest, ASignalComesWithItsParameterInHand) {
  // The kernel has read the form in memory too.
  for (const std::uint64_t control : {0x5dull, 0x1005dull}) {
    EXPECT_EQ(synic.hypercall(control, 0x2001 | std::uint64_t{5} << 32), 0);
    EXPECT_EQ(listener.signaled, std::pair(abi::ConnectionId{0x2001}, std::uint16_t{5}));
    listener.signaled = {};
  }
}

TEST_F(SynicTest, EverySintHasARouteOfItsOwn) {
  std::vector<kvm_irq_routing_entry> routes;
  synic.append_routes(routes);
  ASSERT_EQ(routes.size(), 32u);
  EXPECT_EQ(routes[18].gsi, 24u + 18);
  EXPECT_EQ(routes[18].u.hv_sint.vcpu, 1u);
  EXPECT_EQ(routes[18].u.hv_sint.sint, 2u);
}

}  // namespace
}  // namespace bulkhead::engine::kvm
