// SPDX-License-Identifier: Apache-2.0
//
// start-cost GUEST-MIB MARK COMMAND WORD...: what a virtual machine on KVM costs before and beside its guest's work. Runs
// the command until it prints MARK, and prints
//
//   first-entry TICKS        TSC ticks from the start of the command to its processor's first entry into the guest
//   memory-peak NAME KIB     for each process of it: the greatest PSS beside guest memory (bench/start_cost/memory_use.hpp)
//
// The command is run twice: for the time, and for the memory, so that looking at memory is not in the time. The entry is told
// by the kernel's trace event kvm_entry, of the thread that runs processor 0 ("vp0" is the worker's, "CPU 0/KVM" QEMU's with
// debug-threads=on). Memory is looked at a hundred times a second for the first half of a second, then ten times.
#include <sys/mount.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

#include "bench/command/command.hpp"
#include "bench/start_cost/memory_use.hpp"

namespace bulkhead::bench {
namespace {

const std::string kTracing = "/sys/kernel/tracing/";

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  return static_cast<bool>(file << text << std::flush);
}

/// Traces the first entry, and nothing after it.
bool start_tracing() {
  ::mount("tracefs", kTracing.c_str(), "tracefs", 0, nullptr);  // it may be there already
  const std::string event = kTracing + "events/kvm/kvm_entry/";
  const std::string condition = "comm == \"vp0\" || comm == \"CPU 0/KVM\"";
  return write_file(kTracing + "trace_clock", "x86-tsc") && write_file(event + "filter", condition) &&
         write_file(event + "trigger", "traceoff:1 if " + condition) && write_file(event + "enable", "1") &&
         write_file(kTracing + "tracing_on", "1");
}

/// A line of a trace: "    vp0-123     [000] d....  TICKS: kvm_entry: vcpu 0, rip 0x..."
std::optional<unsigned long long> first_entry() {
  std::ifstream trace(kTracing + "trace");
  for (std::string line; std::getline(trace, line);) {
    const auto event = line.find(": kvm_entry:");
    if (line.starts_with('#') || event == std::string::npos) continue;
    const auto blank = line.rfind(' ', event);
    return std::strtoull(line.c_str() + blank + 1, nullptr, 10);
  }
  return std::nullopt;
}

void complain(const Command& command, const char* mark) {
  std::fprintf(stderr, "'%s' did not come; all that was said is: %s\n", mark, command.said().c_str());
}

/// Ticks from the start of the command to the first entry, or nothing, and a message.
std::optional<unsigned long long> measure_time(char** words, const char* mark) {
  if (!start_tracing()) {
    std::fputs("start-cost: the kernel does not trace entries into guests\n", stderr);
    return std::nullopt;
  }
  const auto before = __rdtsc();
  Command command(words);
  while (!command.has_said(mark)) {
    if (command.read() == Command::Read::Something) continue;
    complain(command, mark);
    return std::nullopt;
  }
  const auto entry = first_entry();
  if (!entry) std::fputs("start-cost: no processor's thread entered a guest\n", stderr);
  return entry ? std::optional(*entry - before) : std::nullopt;
}

using Peaks = std::map<std::string, std::uint64_t>;

/// The greatest memory use of each process until the command says the mark, or nothing, and a message.
std::optional<Peaks> measure_memory(char** words, const char* mark, std::uint64_t guest_kib) {
  constexpr int kOften = 10, kSeldom = 100;  // milliseconds
  constexpr int kOftenCount = 50;
  Peaks peaks;
  Command command(words);
  for (int looks = 0; !command.has_said(mark);) {
    const auto read = command.read(looks < kOftenCount ? kOften : kSeldom);
    if (read == Command::Read::End) {
      complain(command, mark);
      return std::nullopt;
    }
    if (read == Command::Read::Something && !command.has_said(mark)) continue;
    for (const auto& [name, kib] : memory_use(command.process(), guest_kib)) peaks[name] = std::max(peaks[name], kib);
    ++looks;
  }
  return peaks;
}

int run(int count, char** arguments) {
  if (count < 4) {
    std::fputs("usage: start-cost GUEST-MIB MARK COMMAND WORD...\n", stderr);
    return 2;
  }
  const std::uint64_t guest_kib = std::strtoull(arguments[1], nullptr, 10) * 1024;
  const auto ticks = measure_time(arguments + 3, arguments[2]);
  if (!ticks) return 1;
  const auto peaks = measure_memory(arguments + 3, arguments[2], guest_kib);
  if (!peaks) return 1;
  std::printf("first-entry %llu\n", *ticks);
  for (const auto& [name, kib] : *peaks) {
    std::printf("memory-peak %s %llu\n", name.c_str(), static_cast<unsigned long long>(kib));
  }
  return 0;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int count, char** arguments) { return bulkhead::bench::run(count, arguments); }
