// SPDX-License-Identifier: Apache-2.0
//
// The driver's coming and going, and what the root's kernel does under it while children run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

/// A child that never ends by itself, in the background; its output is in /tmp/child.
void start_endless_child(Machine& machine) {
  machine.must_run(command_of(TinyGuest{.name = "endless_loop"}) + " >/tmp/child 2>&1 & sleep 3");
  machine.must_run("grep -q EXPECT /tmp/child");
}

void end_child(Machine& machine) { machine.must_run("kill -9 $(pidof bulkhead-vmwp); sleep 1"); }

TEST(Driver, KeepsToItsInterface) {
  Machine machine;
  machine.must_run("echo 4 >/proc/sys/vm/nr_hugepages");
  const Answer answer = machine.run("driver-check 1000", Seconds(600));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, Not(HasSubstr("FAIL")));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST(Driver, IsLoadedAgainAndLeavesTheSameMemory) {
  Machine machine;
  const auto load_again = [&] {
    machine.must_run("driver-check 20 >/tmp/check", Seconds(120));
    machine.must_run("rmmod bulkhead && modprobe bulkhead");
    return machine.must_run("hypervisor-information");
  };
  // The first time the hypervisor may keep a page of its own for later.
  const std::string first = load_again();
  for (int round = 0; round < 4; ++round) EXPECT_EQ(load_again(), first);
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST(Driver, IsNotRemovedUnderAChild) {
  Machine machine;
  start_endless_child(machine);
  EXPECT_NE(machine.run("rmmod bulkhead").status, 0);
  end_child(machine);
  machine.must_run("rmmod bulkhead && modprobe bulkhead");
  EXPECT_EQ(machine.run(command_of(TinyGuest{.name = "hello"})).status, 0);
}

TEST(Driver, RefusesSleep) {
  Machine machine;
  EXPECT_NE(machine.run("echo freeze >/sys/power/state").status, 0);
  EXPECT_THAT(machine.must_run("dmesg"), HasSubstr("the root partition of a hypervisor cannot sleep"));
  EXPECT_EQ(machine.run(command_of(TinyGuest{.name = "hello"})).status, 0);
}

TEST(Driver, ChildrenGoOnWhenProcessorsLeave) {
  Machine machine;
  machine.must_run(command_of(LinuxChild{.vps = 2, .mode = "load", .words = "child.seconds=30"}) +
                   " >/tmp/child 2>&1 & echo $! >/tmp/child.pid; sleep 5");
  machine.must_run(
      "for n in $(seq 10); do echo 0 >/sys/devices/system/cpu/cpu1/online && sleep 1 && "
      "echo 1 >/sys/devices/system/cpu/cpu1/online && sleep 1 || exit 1; done",
      Seconds(120));
  machine.must_run("while kill -0 $(cat /tmp/child.pid) 2>/dev/null; do sleep 1; done", Seconds(200));
  EXPECT_THAT(machine.must_run("cat /tmp/child"), HasSubstr("child: load: good"));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST(Driver, MachineRestartsUnderChildren) {
  Machine machine;
  start_endless_child(machine);
  machine.send("reboot -f");
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::Reset);
}

}  // namespace
}  // namespace bulkhead::lab
