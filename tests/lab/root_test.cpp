// SPDX-License-Identifier: Apache-2.0
//
// The root partition: a stock Linux that goes on as if it had the machine to itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;

struct RootCase {
  std::string kernel;
  unsigned processors;
};

class RootBoots : public testing::TestWithParam<RootCase> {};

TEST_P(RootBoots, OnAllProcessorsRunsAChildAndPowersOff) {
  Machine machine({.root = GetParam().kernel, .processors = GetParam().processors});
  EXPECT_EQ(machine.must_run("nproc"), std::to_string(GetParam().processors) + "\n");
  const Answer child = machine.run(command_of(TinyGuest{.name = "hello"}), Seconds(60));
  EXPECT_EQ(child.status, 0) << child.output;
  EXPECT_EQ(machine.kernel_complaints(), "");
  machine.send("poweroff -f");
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::PowerOff);
}

INSTANTIATE_TEST_SUITE_P(Kernels, RootBoots,
                         testing::Values(RootCase{"6.1-cloud", 1}, RootCase{"6.1", 4}, RootCase{"6.12-cloud", 4},
                                         RootCase{"6.12", 2}),
                         [](const auto& instance) {
                           return test_name("Linux" + instance.param.kernel + "On" +
                                            std::to_string(instance.param.processors));
                         });

TEST(Root, BootsByGrubAndMultiboot2) {
  Machine machine({.loader = Loader::GrubMultiboot2});
  EXPECT_EQ(machine.must_run("nproc"), "2\n");
}

TEST(Root, RebootResetsTheMachine) {
  Machine machine;
  machine.send("reboot -f");
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::Reset);
}

TEST(Root, KexecStartsAnotherKernelOnAllProcessors) {
  Machine machine;
  // A child has come and gone, so that the hypervisor holds memory of this Linux; another still runs.
  EXPECT_EQ(machine.run(command_of(TinyGuest{.name = "hello"}), Seconds(60)).status, 0);
  machine.must_run(command_of(TinyGuest{.name = "endless_loop"}) + " >/tmp/child 2>&1 & sleep 3");
  machine.send(
      "kexec /child/6.12-cloud/vmlinuz /child/6.12-cloud/initrd "
      "'console=ttyS0 quiet child.mode=report child.token=kexec'");
  const std::string report = machine.wait_for("child: token: kexec\n", Seconds(200));
  EXPECT_THAT(report, HasSubstr("child: kernel: 6.12"));
  EXPECT_THAT(report, HasSubstr("child: processors: 2\n"));
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::PowerOff);
}

TEST(Root, ProcessorsGoOfflineAndComeBack) {
  Machine machine({.processors = 4});
  machine.must_run(
      "for round in $(seq 10); do for n in 1 2 3; do echo 0 >/sys/devices/system/cpu/cpu$n/online || exit 1; done; "
      "for n in 3 1 2; do echo 1 >/sys/devices/system/cpu/cpu$n/online || exit 1; done; done",
      Seconds(300));
  EXPECT_EQ(machine.must_run("nproc"), "4\n");
}

TEST(Root, ReadsAnyMsr) {
  Machine machine;
  machine.must_run("modprobe msr && msr-sweep", Seconds(300));
  EXPECT_EQ(machine.must_run("nproc"), "2\n");
  EXPECT_EQ(machine.kernel_complaints(), "");
}

/// The reserved ranges of the memory map that are inside the machine's memory, as "START END" lines.
std::vector<std::string> reserved_in_memory(Machine& machine) {
  std::istringstream lines(
      machine.must_run("cd /sys/firmware/memmap; for n in *; do [ \"$(cat $n/type)\" != Reserved ] || echo $(cat "
                       "$n/start) $(cat $n/end); done"));
  constexpr std::uint64_t kFirst = 0x100000;
  constexpr std::uint64_t kLast = 0x7ffe0000;  // from here on the firmware's, with 2 GiB of memory
  std::vector<std::string> ranges;
  for (std::string line; std::getline(lines, line);) {
    const std::uint64_t start = std::stoull(line, nullptr, 0);
    if (start >= kFirst && start < kLast) ranges.push_back(line);
  }
  return ranges;
}

TEST(Root, DoesNotSeeOrChangeTheHypervisorThroughDevMem) {
  Machine machine;
  const auto ranges = reserved_in_memory(machine);
  ASSERT_FALSE(ranges.empty());
  for (const auto& range : ranges) {
    // The memory map gives the last byte; pages are whole.
    const std::string report = machine.must_run("set -- " + range + "; hidden-memory $1 $(($2 + 1))", Seconds(120));
    EXPECT_THAT(report, testing::HasSubstr("nonzero bytes 0, pages written 0, ")) << range;
    EXPECT_THAT(report, testing::HasSubstr("nonzero bytes afterwards 0")) << range;
  }
  EXPECT_EQ(machine.must_run("nproc"), "2\n");
  machine.must_run("hypervisor-information");
  machine.send("poweroff -f");
  EXPECT_EQ(machine.wait_for_end(Seconds(60)), MachineEnd::PowerOff);
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
