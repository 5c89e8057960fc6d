// SPDX-License-Identifier: Apache-2.0
//
// Children with stock kernels: they boot, find what they were given, and end in every way with the right word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;

struct ChildCase {
  std::string engine;
  std::string kernel;
  unsigned vps;
};

class ChildBoots : public testing::TestWithParam<ChildCase> {};

TEST_P(ChildBoots, FindsItsProcessorsAndPowersOff) {
  const auto& [engine, kernel, vps] = GetParam();
  Machine machine(machine_for(engine));
  const Answer answer =
      machine.run(command_of(LinuxChild{.engine = engine, .kernel = kernel, .vps = vps, .words = "child.token=tried"}),
                  Seconds(400));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, HasSubstr("child: hypervisor: Microsoft Hyper-V"));
  EXPECT_THAT(answer.output, HasSubstr("child: processors: " + std::to_string(vps) + "\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: token: tried\n"));
  EXPECT_THAT(answer.output, HasSubstr("powered off"));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

INSTANTIATE_TEST_SUITE_P(Kernels, ChildBoots,
                         testing::Values(ChildCase{"native", "6.1-cloud", 1}, ChildCase{"native", "6.1-cloud", 2},
                                         ChildCase{"native", "6.1-cloud", 8}, ChildCase{"native", "6.1", 2},
                                         ChildCase{"native", "6.12-cloud", 2}, ChildCase{"kvm", "6.1-cloud", 2}),
                         [](const auto& instance) {
                           return test_name(instance.param.engine + "Linux" + instance.param.kernel + "With" +
                                            std::to_string(instance.param.vps));
                         });

struct EndingCase {
  std::string name;
  std::string command;
  int status;
  std::string word;
};

class ChildEnds : public testing::TestWithParam<EndingCase> {};

TEST_P(ChildEnds, WithTheRightWord) {
  Machine machine;
  const Answer answer = machine.run(GetParam().command, Seconds(200));
  EXPECT_EQ(answer.status, GetParam().status);
  EXPECT_THAT(answer.output, HasSubstr("bulkhead: vm: " + GetParam().word));
}

// The statuses are those of worker/ending.hpp, which the manual page promises.
INSTANTIATE_TEST_SUITE_P(
    Native, ChildEnds,
    testing::Values(EndingCase{"PowerOff", command_of(LinuxChild{.mode = "power-off"}), 0, "powered off"},
                    EndingCase{"Reset", command_of(LinuxChild{.mode = "reboot"}), 80, "reset"},
                    EndingCase{"TripleFault", command_of(TinyGuest{"triple_fault"}), 81, "triple fault"},
                    EndingCase{"Panic", command_of(LinuxChild{.mode = "panic"}), 82, "panicked"},
                    EndingCase{"Stopped", "timeout 10 " + command_of(LinuxChild{.mode = "hang"}), 84, "stopped"}),
    [](const auto& instance) { return instance.param.name; });

// tests/guests/friendly: what a processor, its local APIC, the PIC and the PIT promise, each checked by the guest itself.
TEST(TinyGuests, FindEverythingInOrder) {
  Machine machine;
  for (const std::string name : {"hello", "ipi", "pic", "timer", "x2apic"}) {
    const Answer answer = machine.run(command_of(TinyGuest{name}), Seconds(100));
    EXPECT_EQ(answer.status, 0) << name;
    EXPECT_THAT(answer.output, testing::ContainsRegex("END [1-9][0-9]* 0\n")) << name;
  }
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST(ChildConsole, BelongsToTheChildUntilCtrlBracket) {
  Machine machine;
  machine.send(
      "bulkhead run --memory 512M --kernel /child/6.1-cloud/vmlinuz --initrd /child/6.1-cloud/initrd "
      "--cmdline 'console=ttyS0 quiet child.mode=shell'");
  machine.wait_for("child: this is the child", Seconds(120));
  machine.wait_for("# ", Seconds(60));
  machine.type("echo it is $((6 * 7)) in $(hostname)\n");
  machine.wait_for("it is 42 in child", Seconds(30));
  machine.type("\x1d");
  machine.wait_for("stopped (left by Ctrl-])", Seconds(30));
  machine.wait_for("@@1 84 @@\n", Seconds(30));
  EXPECT_EQ(machine.must_run("hostname", Seconds(60)), "root\n");
}

}  // namespace
}  // namespace bulkhead::lab
