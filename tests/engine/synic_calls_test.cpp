// SPDX-License-Identifier: Apache-2.0
// A guest's messages and signals, from its hypercalls' parameters to the listener.
#include "engine/synic_calls.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <vector>

namespace bulkhead::engine {
namespace {

constexpr std::uint64_t kInput = 0x7100;
constexpr std::uint64_t kSignalEventFast = HV_CALL_SIGNAL_EVENT | HV_HYPERCALL_FAST;

class Listener final : public SynicListener {
 public:
  std::uint16_t message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                               std::span<const std::uint8_t> bytes) override {
    posted_to = connection;
    posted_type = type;
    payload.assign(bytes.begin(), bytes.end());
    return 0x13;
  }
  std::uint16_t event_signaled(abi::ConnectionId connection, std::uint16_t flag) override {
    signaled = {connection, flag};
    return 0;
  }
  void message_slot_freed(abi::VpIndex vp) override { freed.push_back(vp); }

  std::optional<abi::ConnectionId> posted_to;
  abi::SynicMessageType posted_type{};
  std::vector<std::uint8_t> payload;
  std::pair<abi::ConnectionId, std::uint16_t> signaled{};
  std::vector<abi::VpIndex> freed;
};

class SynicCallsTest : public testing::Test {
 protected:
  SynicCallsTest() {
    const GuestMemory::Range range{0, 1 << 20};
    memory = std::move(*GuestMemory::allocate({&range, 1}));
    calls.set_memory(*memory);
    calls.set_listener(&listener);
  }
  void put(const abi::PostMessageInput& input, std::uint64_t address = kInput) {
    std::memcpy(memory->at(address, sizeof input)->data(), &input, sizeof input);
  }

  std::unique_ptr<GuestMemory> memory;
  Listener listener;
  SynicCalls calls;
};

TEST_F(SynicCallsTest, APostedMessageReachesTheListenerAndItsStatusTheGuest) {
  abi::PostMessageInput input{};
  input.connection = abi::ConnectionId{4};
  input.type = abi::SynicMessageType::VmbusChannel;
  input.payload_size = 40;
  input.payload[39] = 0x77;
  put(input);
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, kInput), 0x13);
  EXPECT_EQ(listener.posted_to, abi::ConnectionId{4});
  ASSERT_EQ(listener.payload.size(), 40u);
  EXPECT_EQ(listener.payload[39], 0x77);
}

TEST_F(SynicCallsTest, PostedMessagesThatCannotBeAreRefused) {
  abi::PostMessageInput input{};
  input.connection = abi::ConnectionId{4};
  input.type = abi::SynicMessageType::VmbusChannel;
  put(input);
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE | HV_HYPERCALL_FAST, kInput), HV_STATUS_INVALID_HYPERCALL_INPUT)
      << "too large for fast";
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, kInput + 4), HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, 0x7f08), HV_STATUS_INVALID_ALIGNMENT) << "crosses a page";
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, std::uint64_t{1} << 40), HV_STATUS_INVALID_PARAMETER);
  input.payload_size = 241;
  put(input);
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, kInput), HV_STATUS_INVALID_PARAMETER);
  input.payload_size = 0;
  for (const std::uint32_t type : {0u, 0x8000'0001u}) {
    input.type = abi::SynicMessageType{type};
    put(input);
    EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, kInput), HV_STATUS_INVALID_PARAMETER) << type;
  }
  input.type = abi::SynicMessageType::VmbusChannel;
  input.connection = abi::ConnectionId{0x0100'0004};
  put(input);
  EXPECT_EQ(calls.call(HV_CALL_POST_MESSAGE, kInput), 0x12);
  EXPECT_FALSE(listener.posted_to);
}

TEST_F(SynicCallsTest, ASignalCarriesItsConnectionAndFlag) {
  EXPECT_EQ(calls.call(kSignalEventFast, 0x2001 | std::uint64_t{5} << 32), 0);
  EXPECT_EQ(listener.signaled, std::pair(abi::ConnectionId{0x2001}, std::uint16_t{5}));
  const abi::SignalEventInput input{abi::ConnectionId{0x2002}, 6, 0};
  std::memcpy(memory->at(kInput, sizeof input)->data(), &input, sizeof input);
  EXPECT_EQ(calls.call(HV_CALL_SIGNAL_EVENT, kInput), 0);
  EXPECT_EQ(listener.signaled, std::pair(abi::ConnectionId{0x2002}, std::uint16_t{6}));
  EXPECT_EQ(calls.call(HV_CALL_SIGNAL_EVENT, kInput + 4), HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(calls.call(HV_CALL_SIGNAL_EVENT, std::uint64_t{1} << 40), HV_STATUS_INVALID_PARAMETER);
  calls.set_listener(nullptr);
  EXPECT_EQ(calls.call(kSignalEventFast, 0x2001), 0x12);
}

}  // namespace
}  // namespace bulkhead::engine
