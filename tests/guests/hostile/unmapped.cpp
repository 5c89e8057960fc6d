// SPDX-License-Identifier: Apache-2.0
//
// Reads and writes where there is nothing: each must come back, and the guest goes on.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

extern "C" std::uint64_t page_map[512];

namespace {

constexpr std::uint64_t kPresentWritableLarge = 0x83;
alignas(4096) std::uint64_t pointers[512];
alignas(4096) std::uint64_t directory[512];

/// Shows 2 MiB from `physical` on at 512 GiB, and returns that address.
std::uint64_t map_window(std::uint64_t physical) {
  constexpr std::uint64_t kWindow = 1ull << 39;
  page_map[1] = reinterpret_cast<std::uint64_t>(pointers) | 3;
  pointers[0] = reinterpret_cast<std::uint64_t>(directory) | 3;
  directory[0] = (physical & ~0x1fffffull) | kPresentWritableLarge;
  write_cr3(read_cr3());
  return kWindow + (physical & 0x1fffff);
}

/// Every size and direction at one address. The values that come back may be anything.
void touch(std::uint64_t address) {
  memory_read<std::uint8_t>(address);
  memory_read<std::uint16_t>(address);
  memory_read<std::uint32_t>(address);
  memory_read<std::uint64_t>(address);
  memory_write<std::uint8_t>(address, 0x55);
  memory_write<std::uint16_t>(address, 0x5555);
  memory_write<std::uint32_t>(address, 0x55555555);
  memory_write<std::uint64_t>(address, 0x5555555555555555);
  asm volatile("lock addl $1, (%0)" ::"r"(address) : "memory", "cc");
  std::uint64_t to = address, count = 16;
  asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(0x12345678) : "memory");
}

}  // namespace

void bulkhead::guest::run() {
  const std::uint32_t address_bits = cpuid(0x80000008).eax & 0xff;
  unsigned faults = 0, done = 0;
  const auto probe = [&](std::uint64_t physical) {
    const std::uint64_t address = map_window(physical);
    const Fault fault = attempt([=] { touch(address); });
    faults += fault.vector == kNoException ? 0 : 1;
    ++done;
  };
  // The hole below 4 GiB, without the APICs; then one place in each power of two; then the last bytes of all.
  for (std::uint64_t physical = 0xd0000000; physical < 0xf0000000; physical += 0x1000000) probe(physical);
  for (std::uint32_t bit = 36; bit < address_bits && bit < 52; ++bit) probe(1ull << bit);
  probe((1ull << (address_bits < 52 ? address_bits : 52)) - 64);
  probe(0xffe00000 - 0x1000);
  print_number(done);
  print(" places, ");
  print_number(faults);
  print(" faults\n");
  pass("accesses to unmapped memory end");

  // A page that lies on both sides of the border of an unmapped page.
  const std::uint64_t border = map_window(0xd0000000) + 0xffd;
  attempt([=] { touch(border); });
  pass("accesses across the border of unmapped pages end");
  // Beyond what the processor has address bits for: reserved bits, so a page fault.
  if (address_bits < 52) {
    const std::uint64_t beyond = map_window(1ull << address_bits);
    check_equal(attempt([=] { memory_read<std::uint8_t>(beyond); }).vector, kPageFault, "too wide an address faults");
  }
}
