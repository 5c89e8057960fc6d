// SPDX-License-Identifier: Apache-2.0
//
// The root partition: a stock Linux that goes on as if it had the machine to itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/machine.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

struct RootCase {
  std::string kernel;
  unsigned processors;
};

class RootBoots : public testing::TestWithParam<RootCase> {};

TEST_P(RootBoots, OnAllProcessorsAndPowersOff) {
  Machine machine({.root = GetParam().kernel, .processors = GetParam().processors});
  EXPECT_EQ(machine.must_run("nproc"), std::to_string(GetParam().processors) + "\n");
  EXPECT_THAT(machine.must_run("dmesg"), Not(HasSubstr("WARNING:")));
  machine.send("poweroff -f");
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::PowerOff);
}

INSTANTIATE_TEST_SUITE_P(Kernels, RootBoots,
                         testing::Values(RootCase{"6.1-cloud", 1}, RootCase{"6.1-cloud", 2}, RootCase{"6.1-cloud", 4},
                                         RootCase{"6.1", 2}, RootCase{"6.12-cloud", 2}, RootCase{"6.12", 2}));

TEST(Root, BootsByGrubAndMultiboot2) {
  Machine machine({.loader = Loader::GrubMultiboot2});
  EXPECT_EQ(machine.must_run("nproc"), "2\n");
}

TEST(Root, RebootResetsTheMachine) {
  Machine machine;
  machine.send("reboot -f");
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::Reset);
}

TEST(Root, ProcessorsGoOfflineAndComeBack) {
  Machine machine({.processors = 4});
  machine.must_run(
      "for round in $(seq 10); do for n in 1 2 3; do echo 0 >/sys/devices/system/cpu/cpu$n/online || exit 1; done; "
      "for n in 3 1 2; do echo 1 >/sys/devices/system/cpu/cpu$n/online || exit 1; done; done",
      Seconds(300));
  EXPECT_EQ(machine.must_run("nproc"), "4\n");
}

TEST(Root, TakesNmis) {
  Machine machine;
  const auto nmis = [&] { return std::stoul(machine.must_run("awk '/NMI:/ { print $2 + $3 }' /proc/interrupts")); };
  const auto before = nmis();
  for (int i = 0; i < 5; ++i) {
    machine.inject_nmi();
    machine.must_run("sleep 1");
  }
  EXPECT_GT(nmis(), before);
  // The kernel asks every processor for a backtrace by NMI.
  machine.must_run("dmesg -c >/dev/null; echo 1 >/proc/sys/kernel/sysrq; echo l >/proc/sysrq-trigger; sleep 2");
  EXPECT_THAT(machine.must_run("dmesg"), HasSubstr("NMI backtrace for cpu 1"));
}

}  // namespace
}  // namespace bulkhead::lab
