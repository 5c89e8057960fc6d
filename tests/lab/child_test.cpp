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

class ChildEnds : public OnEachEngine {
 protected:
  void expect_end(const std::string& command, int status, const std::string& word) {
    Machine machine(settings());
    const Answer answer = machine.run(command, Seconds(200));
    EXPECT_EQ(answer.status, status);
    EXPECT_THAT(answer.output, HasSubstr("bulkhead: vm: " + word));
  }
  std::string linux_child(const std::string& mode) const {
    return command_of(LinuxChild{.engine = engine(), .mode = mode});
  }
};
INSTANTIATE_TEST_SUITE_P(Engines, ChildEnds, every_engine(), engine_name);

// The statuses are those of worker/ending.hpp, which the manual page promises.
TEST_P(ChildEnds, ByPowerOff) { expect_end(linux_child("power-off"), 0, "powered off"); }
TEST_P(ChildEnds, ByReset) { expect_end(linux_child("reboot"), 80, "reset"); }
TEST_P(ChildEnds, ByTripleFault) {
  expect_end(command_of(TinyGuest{.name = "triple_fault", .engine = engine()}), 81, "triple fault");
}
TEST_P(ChildEnds, ByPanic) { expect_end(linux_child("panic"), 82, "panicked"); }
TEST_P(ChildEnds, WhenItIsStopped) { expect_end("timeout 10 " + linux_child("hang"), 84, "stopped"); }

// tests/guests/friendly: what a processor, its local APIC, the PIC and the PIT promise, each checked by the guest itself.
class TinyGuests : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, TinyGuests, every_engine(), engine_name);

TEST_P(TinyGuests, FindEverythingInOrder) {
  Machine machine(settings());
  for (const std::string name : {"hello", "ipi", "pic", "timer", "x2apic"}) {
    // What KVM does not refuse is said in the guest.
    const std::string words = engine() == "kvm" ? "lenient" : "";
    const Answer answer =
        machine.run(command_of(TinyGuest{.name = name, .words = words, .engine = engine()}), Seconds(100));
    EXPECT_EQ(answer.status, 0) << name;
    EXPECT_THAT(answer.output, testing::ContainsRegex("END [1-9][0-9]* 0\n")) << name;
  }
  EXPECT_EQ(machine.kernel_complaints(), "");
}

class ChildConsole : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, ChildConsole, every_engine(), engine_name);

TEST_P(ChildConsole, BelongsToTheChildUntilCtrlBracket) {
  Machine machine(settings());
  machine.send("bulkhead run --engine " + engine() +
               " --memory 512M --kernel /child/6.1-cloud/vmlinuz --initrd /child/6.1-cloud/initrd "
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
