// SPDX-License-Identifier: Apache-2.0
#include "worker/command_line.hpp"

#include <gtest/gtest.h>

#include "worker/ending.hpp"

namespace bulkhead::worker {
namespace {

using Arguments = std::vector<std::string>;

std::string error_of(const Arguments& arguments) {
  auto line = parse(arguments);
  return line ? "" : line.error().message();
}

TEST(CommandLine, WhatTheStarterWritesTheWorkerReads) {
  CommandLine line;
  line.name = "web server";
  line.engine = "kvm";
  line.memory_size = 512ull << 20;
  line.vp_count = 4;
  line.kernel_fd = 3;
  line.initrd_fd = 4;
  line.kernel_arguments = "console=ttyS0 -- quiet";
  line.com1_fd = 5;
  line.com2_fd = 6;
  line.report_fd = 7;
  line.debug_exit = true;
  line.vmbus = true;
  line.disks.resize(2);
  line.disks[0].files = {{.fd = 8, .path = "/a.raw"}};
  line.disks[1].kind = "dvd";
  line.restart_on_reset = true;
  auto parsed = parse(to_arguments(line));
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message();
  EXPECT_EQ(*parsed, line);
}

TEST(CommandLine, VmbusAndServicesAreReadAsWritten) {
  CommandLine line;
  line.memory_size = 256 << 20;
  line.kernel_fd = 3;
  line.control_fd = 9;
  for (const std::optional<bool> vmbus : {std::optional<bool>{}, std::optional(true), std::optional(false)}) {
    line.vmbus = vmbus;
    EXPECT_EQ(parse(to_arguments(line)).value(), line);
  }
  line.integration.heartbeat = false;
  line.dynamic_memory = {.minimum = 128 << 20, .maximum = 512 << 20, .buffer_percent = 30, .weight = 7};
  EXPECT_EQ(parse(to_arguments(line)).value(), line);
}

TEST(CommandLine, MemoryLimitsThatAreNotSaidAreWhatTheMachineStartsWith) {
  const auto line = parse(Arguments{"--memory", "4096", "--kernel-fd", "3", "--memory-weight", "9"});
  ASSERT_TRUE(line);
  EXPECT_EQ(line->dynamic_memory->minimum, 4096u);
  EXPECT_EQ(line->dynamic_memory->maximum, 4096u);
}

TEST(CommandLine, AnArgumentMayLookLikeAnOption) {
  CommandLine line;
  line.memory_size = 1 << 20;
  line.kernel_fd = 3;
  line.kernel_arguments = "--debug-exit";
  EXPECT_EQ(parse(to_arguments(line))->kernel_arguments, "--debug-exit");
}

TEST(CommandLine, SaysWhatIsWrong) {
  EXPECT_EQ(error_of({}), "--memory is missing");
  EXPECT_EQ(error_of({"--memory", "4096"}), "--kernel-fd is missing");
  EXPECT_EQ(error_of({"--memory"}), "--memory needs a value");
  EXPECT_EQ(error_of({"--memory", "4k"}), "--memory '4k' is not a number from 0 to 18446744073709551615");
  EXPECT_EQ(error_of({"--kernel-fd", "-1"}), "--kernel-fd '-1' is not a number from 0 to 2147483647");
  EXPECT_EQ(error_of({"--disk", "{}"}), "--disk '{}': a disk needs 'files'");
  EXPECT_EQ(error_of({"--engine", "xen"}), "--engine 'xen' is none of native, kvm, auto");
  EXPECT_EQ(error_of({"--on-reset", "x"}), "--on-reset 'x' is none of exit, restart");
  EXPECT_EQ(error_of({"--debug-exit", "--debug-exit"}), "--debug-exit is given twice");
  EXPECT_EQ(error_of({"kernel"}), "unknown option 'kernel'");
  EXPECT_EQ(error_of({"--vmbus", "--no-vmbus"}), "--vmbus and --no-vmbus contradict each other");
  EXPECT_EQ(error_of({"--memory-buffer", "2001"}), "--memory-buffer '2001' is not a number from 0 to 2000");
  EXPECT_EQ(error_of({"--memory-weight", "10001"}), "--memory-weight '10001' is not a number from 0 to 10000");
  EXPECT_EQ(error_of({"--memory-speed", "1"}), "unknown option '--memory-speed'");
  EXPECT_TRUE(error_of({"--integration", "x"}).starts_with("--integration: 'x' is no integration service"));
}

TEST(Ending, HasAStatusForEachWord) {
  EXPECT_EQ(exit_status({EndingKind::PoweredOff, ""}), 0);
  EXPECT_EQ(exit_status({EndingKind::Exited, "", 7}), 7);
  EXPECT_EQ(exit_status({EndingKind::NotStarted, ""}), 1);
  EXPECT_EQ(exit_status({EndingKind::Reset, ""}), 80);
  EXPECT_EQ(exit_status({EndingKind::TripleFault, ""}), 81);
  EXPECT_EQ(exit_status({EndingKind::Panicked, ""}), 82);
  EXPECT_EQ(exit_status({EndingKind::Failed, ""}), 83);
  EXPECT_EQ(exit_status({EndingKind::Stopped, ""}), 84);
}

TEST(Ending, ReadsAsALine) {
  EXPECT_EQ(to_line({EndingKind::PoweredOff, ""}), "powered off");
  EXPECT_EQ(to_line({EndingKind::Reset, "keyboard controller"}), "reset (keyboard controller)");
  EXPECT_EQ(to_line({EndingKind::Exited, "", 3}), "exited with value 3");
}

}  // namespace
}  // namespace bulkhead::worker
