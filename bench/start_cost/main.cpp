// SPDX-License-Identifier: Apache-2.0
//
// start-cost                                  what it costs the kernel to make a KVM machine. Prints
//
//   machine-made MEAN LEAST MOST  TSC ticks that KVM_CREATE_VM takes
//
// start-cost GUEST-MIB MARK COMMAND WORD...  what a virtual machine on KVM costs before and beside its guest's work. Prints
//
//   first-entry MEAN LEAST MOST   TSC ticks from the start of the command to its processor's first entry into the guest
//   memory-peak NAME KIB          for each process of it: the greatest PSS beside guest memory (memory_use.hpp)
//
// Each time is taken sixteen times, at moments that are spread over the kernel's clock tick, because some kernels wait for
// ticks when they make a machine. The command is ended as soon as it has entered its guest. Its first start, which finds
// nothing in the kernel's caches, does not count. The entry is told by the kernel's trace event kvm_entry, of the thread
// that runs processor 0 ("vp0" is the worker's, "CPU 0/KVM" QEMU's with debug-threads=on).
// For the memory the command runs once more, until it prints MARK; it is looked at a hundred times a second for the first
// half of a second, then ten times.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/command/command.hpp"
#include "bench/start_cost/memory_use.hpp"

namespace bulkhead::bench {
namespace {

const std::string kTracing = "/sys/kernel/tracing/";

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  return static_cast<bool>(file << text << std::flush);
}

/// Traces entries into guests from now on, and keeps the first ones.
bool start_tracing() {
  ::mount("tracefs", kTracing.c_str(), "tracefs", 0, nullptr);  // it may be there already
  const std::string event = kTracing + "events/kvm/kvm_entry/";
  return write_file(kTracing + "trace_clock", "x86-tsc") && write_file(kTracing + "options/overwrite", "0") &&
         write_file(event + "filter", "comm == \"vp0\" || comm == \"CPU 0/KVM\"") &&
         write_file(event + "enable", "1") && write_file(kTracing + "trace", "") &&
         write_file(kTracing + "tracing_on", "1");
}

void stop_tracing() { write_file(kTracing + "tracing_on", "0"); }

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

/// Waits for a quiet moment, and then for the part `part` of `parts` of 20 ms, in which the ticks of all usual kernels come
/// a whole number of times.
void wait_for_moment(unsigned part, unsigned parts) {
  constexpr auto kCycle = std::chrono::nanoseconds(std::chrono::milliseconds(20));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto now = [] { return std::chrono::steady_clock::now().time_since_epoch(); };
  const auto moment = (now() / kCycle + 1) * kCycle + kCycle * part / parts;
  while (now() < moment) continue;
}

/// Ticks that a machine takes, or nothing, and a message.
std::optional<unsigned long long> measure_machine(unsigned part, unsigned parts) {
  wait_for_moment(part, parts);
  const int device = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  const auto before = __rdtsc();
  const int machine = ::ioctl(device, KVM_CREATE_VM, 0);
  const auto after = __rdtsc();
  if (machine < 0) std::perror("start-cost: cannot create a KVM machine");
  ::close(machine);
  ::close(device);
  return machine < 0 ? std::nullopt : std::optional(after - before);
}

/// Ticks from the start of the command to the first entry, or nothing, and a message.
std::optional<unsigned long long> measure_time(char** words, unsigned part, unsigned parts) {
  constexpr int kPatience = 10000, kStep = 50;  // milliseconds
  if (!start_tracing()) {
    std::fputs("start-cost: the kernel does not trace entries into guests\n", stderr);
    return std::nullopt;
  }
  wait_for_moment(part, parts);
  const auto before = __rdtsc();
  Command command(words);
  for (int waited = 0; waited < kPatience; waited += kStep) {
    const bool ended = command.read(kStep) == Command::Read::End;
    if (const auto entry = first_entry()) {
      stop_tracing();
      return *entry - before;
    }
    if (ended) break;
  }
  stop_tracing();
  std::fprintf(stderr, "start-cost: no processor's thread entered a guest; all that was said is: %s\n",
               command.said().c_str());
  return std::nullopt;
}

struct Times {
  unsigned long long mean, least, most;
};

/// `measure` gives ticks, or nothing, of the part of a tick's cycle that it is given.
std::optional<Times> measure_often(
    const std::function<std::optional<unsigned long long>(unsigned, unsigned)>& measure) {
  constexpr unsigned kTimes = 16;
  if (!measure(0, kTimes)) return std::nullopt;  // the first time, when caches are empty
  std::vector<unsigned long long> all;
  for (unsigned time = 0; time < kTimes; ++time) {
    const auto ticks = measure(time, kTimes);
    if (!ticks) return std::nullopt;
    all.push_back(*ticks);
  }
  const auto [least, most] = std::ranges::minmax(all);
  return Times{std::accumulate(all.begin(), all.end(), 0ULL) / kTimes, least, most};
}

void print(const char* name, const Times& times) {
  std::printf("%s %llu %llu %llu\n", name, times.mean, times.least, times.most);
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
  if (count == 1) {
    const auto machine = measure_often(measure_machine);
    if (machine) print("machine-made", *machine);
    return machine ? 0 : 1;
  }
  if (count < 4) {
    std::fputs("usage: start-cost [GUEST-MIB MARK COMMAND WORD...]\n", stderr);
    return 2;
  }
  const std::uint64_t guest_kib = std::strtoull(arguments[1], nullptr, 10) * 1024;
  const auto entry =
      measure_often([&](unsigned part, unsigned parts) { return measure_time(arguments + 3, part, parts); });
  if (!entry) return 1;
  const auto peaks = measure_memory(arguments + 3, arguments[2], guest_kib);
  if (!peaks) return 1;
  print("first-entry", *entry);
  for (const auto& [name, kib] : *peaks) {
    std::printf("memory-peak %s %llu\n", name.c_str(), static_cast<unsigned long long>(kib));
  }
  return 0;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int count, char** arguments) { return bulkhead::bench::run(count, arguments); }
