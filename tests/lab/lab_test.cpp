// SPDX-License-Identifier: Apache-2.0
//
// The lab itself, on the bare emulated machine: when these fail, look at the lab and not at Bulkhead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/machine.hpp"

namespace bulkhead::lab {
namespace {

TEST(Lab, RunsCommandsAndTellsTheirStatus) {
  Machine machine({.below = Below::Nothing, .processors = 1});
  const Answer good = machine.run("echo one; echo two");
  EXPECT_EQ(good.status, 0);
  EXPECT_EQ(good.output, "one\ntwo\n");
  EXPECT_EQ(machine.run("false").status, 1);
}

TEST(Lab, TellsWhatDidNotCome) {
  Machine machine({.below = Below::Nothing, .processors = 1});
  EXPECT_THROW(machine.wait_for("never", Seconds(1)), Failure);
  EXPECT_THROW(machine.must_run("false"), Failure);
}

TEST(Lab, TellsAPowerOffFromAReset) {
  Machine first({.below = Below::Nothing, .processors = 1, .mode = "power-off"});
  EXPECT_EQ(first.wait_for_end(Seconds(60)), MachineEnd::PowerOff);
  Machine second({.below = Below::Nothing, .processors = 1});
  second.send("reboot -f");
  EXPECT_EQ(second.wait_for_end(Seconds(60)), MachineEnd::Reset);
}

}  // namespace
}  // namespace bulkhead::lab
