// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/machine.hpp"

#include <atomic>

#include "hypervisor/boot/layout.h"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/processor/start.hpp"

namespace bulkhead::hypervisor::machine {
namespace {

constexpr unsigned kLogLinesPerSecond = 10;
std::atomic<std::uint64_t> log_second;
std::atomic<unsigned> log_lines;

/// Guests cause log lines: at most so many in a second, on all processors together.
bool may_log() {
  const std::uint64_t second = tsc() / (tsc_frequency() | 1);
  if (log_second.exchange(second) != second) log_lines.store(0);
  return log_lines.fetch_add(1) < kLogLinesPerSecond;
}

}  // namespace

std::uint32_t current_lp() { return LogicalProcessor::current().index; }
std::uint32_t lp_count() { return processors::count; }

std::uint64_t tsc() { return privileged::read_tsc(); }
std::uint64_t tsc_frequency() { return processors::common.tsc_frequency; }

void kick(std::uint32_t lp) {
  LogicalProcessor& target = *processors::all[lp];
  if (&target != &LogicalProcessor::current()) processors::signal(target, kSignalKick);
}

void flush_root_tlb_everywhere() {
  LogicalProcessor& self = LogicalProcessor::current();
  // Tell all first, then wait: they leave the root at the same time. See root::run for the order of the two flags.
  for (std::uint32_t index = 0; index < processors::count; ++index) {
    LogicalProcessor& target = *processors::all[index];
    target.root_flush.store(true);
    if (&target != &self && target.in_root.load()) processors::signal(target, kSignalKick);
  }
  for (std::uint32_t index = 0; index < processors::count; ++index) {
    LogicalProcessor& target = *processors::all[index];
    if (&target == &self) continue;
    while (target.in_root.load() && target.root_flush.load()) privileged::pause();
  }
}

CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult result;
  asm volatile("cpuid"
               : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
               : "a"(leaf), "c"(subleaf));
  return result;
}

std::byte* frame_pointer(Frame frame) { return reinterpret_cast<std::byte*>(BULKHEAD_DIRECT_MAP + frame.address()); }

void log(std::string_view text, std::uint64_t value) {
  if (may_log()) console::line(text, console::Field{"value", value});
}

}  // namespace bulkhead::hypervisor::machine
