// SPDX-License-Identifier: Apache-2.0
//
// Hypercalls about other processors: interrupts to sets of them, and TLB flushes that are complete when the call returns.
#include "guest.hpp"
#include "hypervisor.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "processors.hpp"
#include "time.hpp"

using namespace bulkhead::guest;
using namespace bulkhead::guest::hypervisor;

extern "C" std::uint64_t page_map[512];

namespace {

constexpr std::uint8_t kVector = 0x52;
constexpr std::uint64_t kPatience = 5000000;
constexpr std::uint64_t kPresentWritable = 3;
constexpr std::uint64_t kWindow = 1ull << 39;  // page_map[1]

struct alignas(4096) Page {
  volatile std::uint64_t words[512];
};
Page pointers, directory, table, even, odd, input;

volatile std::uint32_t received[kMaximumProcessors];  // by VP index
volatile bool stop_work;
volatile std::uint64_t published;  // the round whose page is mapped
volatile std::uint64_t stale;      // readings of an old page after its flush
std::uint32_t count;

std::uint64_t address_of(const Page& page) { return reinterpret_cast<std::uint64_t>(&page); }

void on_interrupt(InterruptFrame&) {
  const auto index = static_cast<std::uint32_t>(read_msr(kVpIndex));
  if (index < kMaximumProcessors) received[index] = received[index] + 1;
  local_apic::end_of_interrupt();
}

void wait_work() {
  enable_interrupts();
  while (!stop_work) pause();
  disable_interrupts();
}

/// Reads the window over and over: what was published before the reading is the least that it may show.
void read_work() {
  while (!stop_work) {
    const std::uint64_t round = published;
    if (memory_read<std::uint64_t>(kWindow) < round) stale = stale + 1;
  }
}

void others_do(void (*work)()) {
  stop_work = false;
  for (std::uint32_t number = 1; number < count; ++number) start_work(number, work);
}
void end_work() {
  stop_work = true;
  for (std::uint32_t number = 1; number < count; ++number) wait_until([=] { return is_idle(number); }, kPatience);
}

void test_send(std::uint64_t control, std::uint64_t first, std::uint64_t second, std::uint64_t targets,
               const char* what) {
  for (auto& each : received) each = 0;
  const std::uint64_t status = call(control, first, second);
  if (status != 0) return fail(what, "the call's result", status, 0);
  const bool good = wait_until(
      [=] {
        take_interrupts();
        for (std::uint32_t index = 0; index < count; ++index)
          if (received[index] != (targets >> index & 1)) return false;
        return true;
      },
      kPatience);
  check(good, what, "not exactly the processors of the set were interrupted");
}

void test_interrupts() {
  if (!(hints() & kHintClusterIpi)) return skip("interrupts by hypercall", "not offered");
  const std::uint64_t all = (1ull << count) - 1;
  others_do(wait_work);
  test_send(kClusterIpi | kFast, kVector, all, all, "an interrupt to all, in registers");
  test_send(kClusterIpi | kFast, kVector, all & ~1ull, all & ~1ull, "an interrupt to the others");
  test_send(kClusterIpi | kFast, kVector, 1, 1, "an interrupt to oneself");
  input.words[0] = kVector;
  input.words[1] = all;
  test_send(kClusterIpi, address_of(input), 0, all, "an interrupt to all, in memory");
  if (hints() & kHintExMasks) {
    input.words[1] = 0;  // sparse
    input.words[2] = 1;
    input.words[3] = 2;
    test_send(kClusterIpiEx | 1ull << 17, address_of(input), 0, 2 & all, "an interrupt to a sparse set");
    input.words[1] = 1;  // all
    input.words[2] = 0;
    test_send(kClusterIpiEx, address_of(input), 0, all, "an interrupt to the set of all");
  }
  end_work();
}

/// Maps the window to a page that holds `round`, and flushes. The page of the round before keeps its number.
std::uint64_t map_round(std::uint64_t round, std::uint64_t control) {
  Page& page = round % 2 ? odd : even;
  page.words[0] = round;
  table.words[0] = address_of(page) | kPresentWritable;
  input.words[0] = read_cr3();
  input.words[1] = 1;  // all processors
  input.words[2] = 0;
  input.words[3] = kWindow;
  return call(control, address_of(input));
}

void test_flushes() {
  if (!(hints() & kHintRemoteFlush)) return skip("TLB flushes by hypercall", "not offered");
  page_map[1] = address_of(pointers) | kPresentWritable;
  pointers.words[0] = address_of(directory) | kPresentWritable;
  directory.words[0] = address_of(table) | kPresentWritable;
  map_round(0, kFlushSpace);
  write_cr3(read_cr3());
  others_do([] {
    write_cr3(read_cr3());
    read_work();
  });
  constexpr std::uint64_t kRounds = 400;
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    const bool list = round % 3 == 0;
    const std::uint64_t result = map_round(round, list ? kFlushList | 1ull << 32 : std::uint64_t{kFlushSpace});
    if (result != (list ? 1ull << 32 : 0)) return fail("a flush is done", "the call's result", result, 0);
    if (memory_read<std::uint64_t>(kWindow) != round) return fail("a flush is done here too", "an old page is seen");
    published = round;
  }
  end_work();
  check_equal(stale, 0, "after a flush no processor sees an old page");
}

}  // namespace

void bulkhead::guest::run() {
  if (!is_there()) return skip("hypercalls about processors", "there is no hypervisor with the interface Hv#1");
  mask_pic();
  set_interrupt_handler(kVector, on_interrupt);
  local_apic::enable();
  count = start_processors();
  for (std::uint32_t number = 1; number < count; ++number) start_work(number, [] { local_apic::enable(); });
  for (std::uint32_t number = 1; number < count; ++number) wait_until([=] { return is_idle(number); }, kPatience);
  enable_calls();
  check_equal(call(kLongSpinWait | kFast, 4095), 0, "a long spin is told");
  test_interrupts();
  test_flushes();
}
