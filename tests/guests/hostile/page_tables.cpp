// SPDX-License-Identifier: Apache-2.0
//
// Page tables that are garbage: cyclic, with reserved bits, in a device, or where nothing is. The processor and whoever
// completes instructions in its place walk them; each must come to an end, with the fault that is due where one is.
// "outside" on the command line: a table where there is no memory. A processor reads ones there and faults for the
// reserved bits; the machine may also end the guest, and must say why.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

extern "C" std::uint64_t page_map[512];

namespace {

constexpr std::uint64_t kPresentWritable = 3, kLarge = 0x80;
constexpr std::uint64_t kWindow = 1ull << 39;  // page_map[1]
constexpr std::uint64_t kIoApic = 0xfec00000, kLocalApic = 0xfee00000, kHole = 0xd0000000;

struct alignas(4096) Table {
  std::uint64_t entries[512];
};
Table pointers, directory, table;

std::uint64_t address_of(const Table& of) { return reinterpret_cast<std::uint64_t>(&of); }

/// The window's first page shows the IOAPIC, by tables that are as they should be.
void make_window() {
  page_map[1] = address_of(pointers) | kPresentWritable;
  pointers.entries[0] = address_of(directory) | kPresentWritable;
  directory.entries[0] = address_of(table) | kPresentWritable;
  table.entries[0] = kIoApic | kPresentWritable;
  write_cr3(read_cr3());
}

Fault touch(std::uint64_t address) {
  write_cr3(read_cr3());
  return attempt([=] {
    memory_read<std::uint32_t>(address);
    memory_write<std::uint32_t>(address, 0);
  });
}

/// One entry of the window's tables is replaced, and both ways through it are tried.
void check_faults(std::uint64_t& entry, std::uint64_t value, const char* what) {
  make_window();
  const std::uint64_t old = entry;
  entry = value;
  const Fault fault = touch(kWindow);
  entry = old;
  check_equal(fault.vector, kPageFault, what);
}

void reserved_bits() {
  const std::uint32_t address_bits = cpuid(0x80000008).eax & 0xff;
  const std::uint64_t beyond = address_bits < 52 ? 1ull << address_bits : 0;
  check_faults(page_map[1], page_map[1] | kLarge, "a large page of 512 GiB faults");
  check_faults(pointers.entries[0], kIoApic | kPresentWritable | kLarge | 0x2000,
               "a page of 1 GiB that is not aligned faults");
  check_faults(directory.entries[0], kIoApic | kPresentWritable | kLarge | 0x2000,
               "a page of 2 MiB that is not aligned faults");
  if (beyond == 0) return;
  check_faults(page_map[1], address_of(pointers) | kPresentWritable | beyond,
               "a top entry beyond the address space faults");
  check_faults(pointers.entries[0], address_of(directory) | kPresentWritable | beyond,
               "a pointer beyond the address space faults");
  check_faults(directory.entries[0], address_of(table) | kPresentWritable | beyond,
               "a table beyond the address space faults");
  check_faults(table.entries[0], kIoApic | kPresentWritable | beyond, "a page beyond the address space faults");
}

/// Entries that lead back up: a walk of four levels ends, and shows a table as if it were a page.
void cycles() {
  make_window();
  page_map[2] = reinterpret_cast<std::uint64_t>(page_map) | kPresentWritable;
  constexpr std::uint64_t kOnce = 2ull << 39, kFourTimes = 2ull << 39 | 2ull << 30 | 2ull << 21 | 2ull << 12;
  write_cr3(read_cr3());
  const Fault fault = attempt([] { memory_read<std::uint64_t>(kFourTimes); });
  check(fault.vector == kNoException && ((memory_read<std::uint64_t>(kFourTimes + 16) ^ page_map[2]) & ~0x60ull) == 0,
        "a top table that is all four levels shows itself", "something else is seen");
  attempt([] { memory_read<std::uint64_t>(kOnce); });
  // The device's page by a way that goes through the top table: the emulated walk goes it too.
  pointers.entries[1] = address_of(pointers) | kPresentWritable;
  pointers.entries[2] = kIoApic | kPresentWritable;
  const std::uint64_t device = kWindow | 1ull << 30 | 1ull << 21 | 2ull << 12;
  write_cr3(read_cr3());
  const Fault device_fault = attempt([=] {
    memory_write<std::uint32_t>(device, 0x3e);
    check_equal(memory_read<std::uint8_t>(device), 0x3e, "a device by a cyclic table");
  });
  check_equal(device_fault.vector, kNoException, "a device by a cyclic table does not fault");
  // The tables change under the instruction that goes by them: a string of stores over the table itself and the device.
  attempt([=] {
    std::uint64_t to = kFourTimes, count = 512;
    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(page_map[0]) : "memory");
  });
  pass("stores over the top table by itself end");
}

/// Tables where no memory is.
void outside() {
  expect("a page table outside of memory, or faults");
  const std::uint64_t places[] = {kHole, kIoApic, kLocalApic, 1ull << 38, (1ull << 39) - 4096};
  for (const std::uint64_t place : places) {
    for (std::uint64_t* entry : {&page_map[1], &pointers.entries[0], &directory.entries[0]}) {
      make_window();
      *entry = place | kPresentWritable;
      print_hex(place);
      print("\n");
      touch(kWindow);
    }
  }
  pass("accesses by tables outside of memory end");
}

}  // namespace

void bulkhead::guest::run() {
  if (command_line_has("outside")) return outside();
  reserved_bits();
  cycles();
}
