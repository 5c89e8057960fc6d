// SPDX-License-Identifier: Apache-2.0
#include "worker/integration_choice.hpp"

#include <gtest/gtest.h>

namespace bulkhead::worker {
namespace {

TEST(IntegrationChoice, WhatUsersNameIsWhatTheyGet) {
  EXPECT_EQ(parse_integration_choice("all"), IntegrationChoice{});
  EXPECT_EQ(parse_integration_choice("none"), (IntegrationChoice{false, false, false, false, false, false}));
  EXPECT_EQ(parse_integration_choice("heartbeat"), (IntegrationChoice{true, false, false, false, false, false}));
  EXPECT_EQ(parse_integration_choice("file-copy,shutdown"),
            (IntegrationChoice{false, true, false, false, false, true}));
}

TEST(IntegrationChoice, IsWrittenAsItIsRead) {
  for (const auto* text :
       {"all", "none", "heartbeat", "shutdown,time-synchronization", "key-value-exchange,volume-snapshot"}) {
    EXPECT_EQ(to_text(parse_integration_choice(text).value()), text);
  }
}

TEST(IntegrationChoice, WhatIsNoServiceIsNamed) {
  for (const auto* text : {"", "heart", "heartbeat,", ",heartbeat", "all,none", "Heartbeat"}) {
    const auto choice = parse_integration_choice(text);
    ASSERT_FALSE(choice) << text;
    EXPECT_NE(choice.error().message().find("is no integration service; there are heartbeat, shutdown,"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace bulkhead::worker
