// SPDX-License-Identifier: Apache-2.0
//
// A child that does its worst harms nobody but itself; and when it has gone, nothing of it is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

/// "name value" lines, as hypervisor-information prints them.
using Figures = std::map<std::string, std::uint64_t>;

/// What is there of children below the workers: the hypervisor's figures, or KVM's machines.
Figures figures_below(Machine& machine, const std::string& engine) {
  if (engine == "kvm") {
    return {{"partitions",
             std::stoull(machine.must_run("[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debugfs /sys/kernel/debug; "
                                          "find /sys/kernel/debug/kvm -mindepth 1 -maxdepth 1 -type d | wc -l"))}};
  }
  std::istringstream lines(machine.must_run("hypervisor-information"));
  Figures figures;
  std::string name;
  std::uint64_t value = 0;
  while (lines >> name >> value) figures[name] = value;
  return figures;
}

std::int64_t free_kib(Machine& machine) {
  return std::stoll(
      machine.must_run("sync; echo 3 >/proc/sys/vm/drop_caches; awk '/^MemFree/ { print $2 }' /proc/meminfo"));
}

/// Commands that run hostile guests, all that are in the root's image. Those that would run for ever are stopped.
std::vector<std::string> hostile_commands(const std::string& engine) {
  std::vector<std::string> commands;
  for (const std::string name :
       {"apic_garbage", "exceptions", "execute_device", "hypercalls", "invalid_state", "ipi_storm", "msr",
        "page_tables", "ports", "start_abuse", "synic", "triple_fault", "unmapped", "virtualization"}) {
    commands.push_back("timeout 60 " + command_of(TinyGuest{.name = name, .engine = engine}));
  }
  commands.push_back("timeout 5 " + command_of(TinyGuest{.name = "endless_loop", .engine = engine}));
  commands.push_back("timeout 5 " + command_of(TinyGuest{.name = "ipi_storm", .words = "forever", .engine = engine}));
  return commands;
}

class Isolation : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, Isolation, every_engine(), engine_name);

TEST_P(Isolation, HostileGuestsDisturbNoOtherChildAndNotTheRoot) {
  Machine machine(settings());
  const auto partitions = [&] { return figures_below(machine, engine()).at("partitions"); };
  const auto before = partitions();
  machine.must_run("(" + command_of(LinuxChild{.engine = engine(), .mode = "load", .words = "child.seconds=120"}) +
                   ") >/tmp/neighbour 2>&1 &");
  for (const std::string& command : hostile_commands(engine())) {
    SCOPED_TRACE(command);
    const Answer answer = machine.run(command, Seconds(120));
    // It is told of a fault, or it ends: by itself (0), by a triple fault (81), because it cannot go on (83), or stopped (84).
    EXPECT_THAT(answer.status, testing::AnyOf(0, 81, 83, 84)) << answer.output;
    EXPECT_THAT(answer.output, testing::Not(HasSubstr("FAIL ")));
    if (answer.status == 0) {
      EXPECT_THAT(answer.output, ContainsRegex("END [0-9]+ 0\n"));
    }
  }
  machine.must_run("until grep -q 'bulkhead: vm:' /tmp/neighbour; do sleep 1; done", Seconds(400));
  EXPECT_THAT(machine.must_run("cat /tmp/neighbour"), HasSubstr("child: load: good"));
  EXPECT_EQ(machine.kernel_complaints(), "");
  EXPECT_EQ(partitions(), before);
}

TEST_P(Isolation, AKilledWorkerLeavesNothing) {
  Machine machine(settings());
  const std::string child = command_of(LinuxChild{.engine = engine(), .vps = 2, .mode = "load"}) + " >/dev/null 2>&1";
  machine.must_run("timeout 3 " + child + "; true");
  const auto before = figures_below(machine, engine());
  const std::int64_t free_before = free_kib(machine);
  // From the moment it starts to the middle of the child's boot. A slow machine may not have started it when the time comes.
  for (int tenths = 0; tenths < 40; tenths += 2) {
    machine.must_run("(" + child + ") & sleep " + std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) +
                     "; until kill -9 $(pidof bulkhead-vmwp) 2>/dev/null; do :; done; wait; true");
  }
  EXPECT_EQ(figures_below(machine, engine()), before);
  EXPECT_GT(free_kib(machine), free_before - 8192);
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST_P(Isolation, AThousandChildrenLeaveTheSameMemory) {
  Machine machine(settings());
  const std::string child =
      command_of(TinyGuest{.name = "hello", .vps = 1, .engine = engine()}) + " >/dev/null 2>&1 || echo failed";
  const auto cycles = [&](int count) {
    return machine.must_run("for n in $(seq " + std::to_string(count) + "); do " + child + "; done", Seconds(1000));
  };
  EXPECT_EQ(cycles(20), "");
  const auto before = figures_below(machine, engine());
  const std::int64_t free_before = free_kib(machine);
  EXPECT_EQ(cycles(1000), "");
  EXPECT_EQ(figures_below(machine, engine()), before);
  EXPECT_GT(free_kib(machine), free_before - 8192);
  EXPECT_EQ(machine.kernel_complaints(), "");
}

}  // namespace
}  // namespace bulkhead::lab
