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

/// With what each processor holds back to give out again: large pages are among that, so that it comes to more than a child has.
std::int64_t free_kib(Machine& machine) {
  return std::stoll(machine.must_run(
      "sync; echo 3 >/proc/sys/vm/drop_caches; awk '/^MemFree/ { kib += $2 } /^ *count:/ { kib += 4 * $2 } "
      "END { print kib }' /proc/meminfo /proc/zoneinfo"));
}

struct HostileRun {
  std::string command;
  testing::Matcher<int> status;  // of `bulkhead run`
};

/// All hostile guests that are in the root's image, and how each ends. Those that would run for ever are stopped.
std::vector<HostileRun> hostile_runs(const std::string& engine) {
  constexpr int kGood = 0, kTripleFault = 81, kCannotGoOn = 83, kStopped = 84;
  const auto run = [&](int seconds, const std::string& name, const std::string& words) {
    return "timeout " + std::to_string(seconds) + " " +
           command_of(TinyGuest{.name = name, .words = words, .engine = engine});
  };
  // What they do is answered with faults, of which they tell.
  std::vector<HostileRun> runs;
  for (const char* name : {"apic_garbage", "exceptions", "hypercalls", "ipi_storm", "msr", "page_tables", "ports",
                           "start_abuse", "synic", "unmapped", "virtualization"}) {
    runs.push_back({run(60, name, ""), kGood});
  }
  runs.push_back({run(60, "triple_fault", ""), kTripleFault});
  runs.push_back({run(60, "execute_device", ""), kCannotGoOn});
  runs.push_back({run(60, "invalid_state", ""), testing::AnyOf(kGood, kCannotGoOn)});  // as the processor has it
  runs.push_back({run(5, "endless_loop", ""), kStopped});
  runs.push_back({run(5, "ipi_storm", "forever"), kStopped});
  runs.push_back({run(5, "timer_storm", ""), kStopped});
  return runs;
}

class Isolation : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, Isolation, every_engine(), engine_name);

class RootsClock : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, RootsClock, every_engine(), engine_name);

TEST_P(Isolation, HostileGuestsDisturbNoOtherChildAndNotTheRoot) {
  Machine machine(settings());
  const auto partitions = [&] { return figures_below(machine, engine()).at("partitions"); };
  const auto before = partitions();
  machine.must_run("(" + command_of(LinuxChild{.engine = engine(), .mode = "load", .words = "child.seconds=120"}) +
                   ") >/tmp/neighbour 2>&1 &");
  for (const HostileRun& run : hostile_runs(engine())) {
    SCOPED_TRACE(run.command);
    const Answer answer = machine.run(run.command, Seconds(120));
    EXPECT_THAT(answer.status, run.status) << answer.output;
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

/// Also a test of the emulator, which lost interrupts of the machine's own while a guest had one waiting (lab/emulator/mend.cpp).
TEST_P(RootsClock, GoesOnWhileAChildNeverTakesAnInterrupt) {
  Machine machine(settings());
  const std::string child = command_of(TinyGuest{.name = "timer_storm", .words = "untaken", .engine = engine()});
  machine.must_run("(" + child + " >/tmp/storm 2>&1; echo $? >/tmp/status) &");
  machine.must_run("until grep -q EXPECT /tmp/storm; do sleep 0.1; done");
  // Each of them is woken by the clock of the processor that it sleeps on.
  for (const char* processor : {"0", "1"}) {
    machine.must_run("for n in $(seq 30); do taskset -c " + std::string(processor) + " sleep 0.1; done", Seconds(60));
  }
  EXPECT_EQ(machine.must_run("kill $(pidof bulkhead); until [ -s /tmp/status ]; do sleep 0.1; done; cat /tmp/status"),
            "84\n");
  EXPECT_EQ(machine.kernel_complaints(), "");
}

}  // namespace
}  // namespace bulkhead::lab
