// SPDX-License-Identifier: Apache-2.0
//
// The lab itself, on the bare emulated machine: when these fail, look at the lab and not at Bulkhead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"
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

// QEMU may deliver an interrupt that a hypervisor injects twice, if its loop is left in between (lab/emulator/mend.cpp).
// With both processors in one thread it is left all the time, and without the remedy no guest has come through.
TEST(Lab, InjectsInterruptsOnce) {
  Machine machine({.below = Below::Nothing, .one_thread = true});
  machine.must_run("truncate -s 64M /tmp/a && truncate -s 64M /tmp/b");
  const Answer answer = machine.run(command_of(LinuxChild{.engine = "kvm",
                                                          .vps = 2,
                                                          .mode = "disks",
                                                          .words = "child.disks=2",
                                                          .options = "--disk /tmp/a --disk /tmp/b"}),
                                    Seconds(110));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, testing::HasSubstr("child: disks: 2\n"));
}

}  // namespace
}  // namespace bulkhead::lab
