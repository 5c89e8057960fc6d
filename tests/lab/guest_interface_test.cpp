// SPDX-License-Identifier: Apache-2.0
//
// The Hyper-V interface as stock kernels use it, and as guests of our own look at it from inside, on both engines.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;

class GuestInterface : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Engines, GuestInterface, testing::Values("native", "kvm"),
                         [](const auto& instance) { return instance.param; });

TEST_P(GuestInterface, AStockKernelUsesItAndConnectsVmbus) {
  Machine machine(machine_for(GetParam()));
  const Answer answer = machine.run(command_with_vmbus({.engine = GetParam(), .vps = 2}), Seconds(400));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, HasSubstr("child: hypervisor: Microsoft Hyper-V\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: VMBus: version 5.3\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: clock events: Hyper-V clockevent\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: Hyper-V: Using IPI hypercalls\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: Hyper-V: Using hypercall for remote TLB flush\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: Hyper-V: Using enlightened APIC"));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST_P(GuestInterface, AKernelsLastWordsReachTheWorker) {
  Machine machine(machine_for(GetParam()));
  const Answer answer =
      machine.run(command_with_vmbus({.engine = GetParam(), .vps = 2, .mode = "panic"}), Seconds(400));
  EXPECT_EQ(answer.status, 82) << answer.output;
  EXPECT_THAT(answer.output, HasSubstr("panicked: Kernel panic - not syncing: sysrq triggered crash"));
  EXPECT_THAT(answer.output, HasSubstr("guest: "));
}

TEST_P(GuestInterface, TinyGuestsFindItAsItShouldBe) {
  Machine machine(machine_for(GetParam()));
  for (const std::string name : {"processor_calls", "synthetic"}) {
    const Answer answer = machine.run(command_of(TinyGuest{.name = name, .engine = GetParam()}), Seconds(100));
    EXPECT_EQ(answer.status, 0) << answer.output;
    EXPECT_THAT(answer.output, testing::ContainsRegex("END [1-9][0-9]* 0\n")) << answer.output;
  }
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST_P(GuestInterface, ProcessorsThatTellOfLongSpinsGiveTheirTimeAwayAndAllGetOn) {
  Machine machine(machine_for(GetParam()));
  const Answer answer = machine.run(
      command_of(TinyGuest{.name = "spin", .vps = 4, .words = "notify", .engine = GetParam()}), Seconds(200));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, testing::ContainsRegex("notices: [1-9]")) << answer.output;
  EXPECT_THAT(answer.output, HasSubstr("END 1 0\n")) << answer.output;
  EXPECT_EQ(machine.kernel_complaints(), "");
}

}  // namespace
}  // namespace bulkhead::lab
