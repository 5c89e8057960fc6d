// SPDX-License-Identifier: Apache-2.0
//
// The program as a user starts it, as far as that goes without an engine.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <string>

#include "tests/cli/program.hpp"

namespace bulkhead::cli {
namespace {

TEST(Program, SaysItsVersion) {
  const auto outcome = run("--version");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_TRUE(outcome.text.starts_with("bulkhead ")) << outcome.text;
}

TEST(Program, AWrongCommandLineGetsOneLineAndStatus2) {
  for (const auto* arguments :
       {"", "fly", "run", "run --kernel", "run --kernel /x --engine xen", "run --kernel /x --vps two",
        "run --kernel /x --console", "run --kernel /x --console screen", "run --kernel /x --on-reset never",
        "run --kernel /x extra", "run --kernel /x --vmbus --no-vmbus", "run --kernel /x --memory-buffer 2001",
        "run --kernel /x --memory-weight heavy", "host"}) {
    const auto outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments << ": " << outcome.text;
    EXPECT_TRUE(outcome.is_one_line()) << arguments << ": " << outcome.text;
    EXPECT_TRUE(outcome.text.starts_with("bulkhead: ")) << outcome.text;
  }
}

TEST(Program, ACommandThatIsNotThereIsNamed) {
  EXPECT_EQ(run("fly").text, "bulkhead: there is no command 'fly'; --help lists them\n");
  EXPECT_EQ(run("--fly").text, "bulkhead: there is no option '--fly'; --help lists them\n");
  EXPECT_EQ(run("host fly").text, "bulkhead: there is no command 'fly'; --help lists them\n");
  EXPECT_EQ(run("disk fly high").text, "bulkhead: there is no command 'fly'; --help lists them\n");
  EXPECT_EQ(run("run fly").text, "bulkhead: --kernel is required\n");
  EXPECT_EQ(run("host").text, "bulkhead: A subcommand is required\n");
}

TEST(Program, WhatCannotBeStartedGetsOneLineAndStatus1) {
  const std::array<std::pair<const char*, const char*>, 13> cases = {{
      {"run --kernel /nowhere",
       "bulkhead: cannot start 'vm': --kernel: cannot open '/nowhere': No such file or directory\n"},
      {"run --kernel /tmp", "bulkhead: cannot start 'vm': --kernel: '/tmp' is not a file\n"},
      {"run --kernel /dev/null", "bulkhead: cannot start 'vm': --kernel: '/dev/null' is not a file\n"},
      {"run --name web --kernel /proc/version", "bulkhead: cannot start 'web': --kernel: '/proc/version' is empty\n"},
      {"run --kernel /bin/true --initrd /nowhere",
       "bulkhead: cannot start 'vm': --initrd: cannot open '/nowhere': No such file or directory\n"},
      {"run --kernel /bin/true --memory 12Q",
       "bulkhead: cannot start 'vm': --memory: '12Q' is not a size; write for example 512M or 2G\n"},
      {"run --kernel /bin/true --memory-weight 5",
       "bulkhead: cannot start 'vm': --memory-buffer and --memory-weight need --memory-minimum or --memory-maximum\n"},
      {"run --kernel /bin/true --memory-maximum much",
       "bulkhead: cannot start 'vm': --memory-maximum: 'much' is not a size; write for example 512M or 2G\n"},
      {"run --kernel /bin/true --no-vmbus --integration heartbeat",
       "bulkhead: cannot start 'vm': --no-vmbus leaves no place for --integration\n"},
      {"run --kernel /bin/true --no-vmbus --memory-maximum 1G",
       "bulkhead: cannot start 'vm': --no-vmbus leaves no place for dynamic memory\n"},
      {"run --kernel /bin/true --no-vmbus --dvd none",
       "bulkhead: cannot start 'vm': --no-vmbus leaves no place for --dvd\n"},
      {"run --kernel /bin/true --integration telepathy",
       "bulkhead: cannot start 'vm': --integration: 'telepathy' is no integration service; there are heartbeat, "
       "shutdown, "
       "time-synchronization, key-value-exchange, volume-snapshot and file-copy\n"},
      {"run --kernel /bin/true --console file:/nowhere/x",
       "bulkhead: cannot start 'vm': --console: cannot open '/nowhere/x': No such file or directory\n"},
  }};
  for (const auto& [arguments, line] : cases) {
    const auto outcome = run(arguments);
    EXPECT_EQ(outcome.status, 1) << arguments;
    EXPECT_EQ(outcome.text, line);
  }
}

TEST(Program, WithoutAnEngineItSaysWhy) {
  if (access("/dev/bulkhead", F_OK) == 0) GTEST_SKIP() << "this host has the hypervisor";
  const auto outcome = run("run --engine native --kernel /bin/true --memory 16M");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(outcome.is_one_line()) << outcome.text;
  EXPECT_NE(outcome.text.find("/dev/bulkhead"), std::string::npos) << outcome.text;
}

TEST(Program, HostInfoNamesEachEngine) {
  const auto outcome = run("host info");
  EXPECT_NE(outcome.text.find("engine native"), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find("engine kvm"), std::string::npos) << outcome.text;
  EXPECT_NE(run("host info --json").text.find("\"engines\""), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::cli
