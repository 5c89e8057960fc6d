// SPDX-License-Identifier: Apache-2.0
//
// Devices in memory and string instructions on ports, in every mode of the processor and with every form of paging; also
// with an operand, a buffer or the instruction itself on two pages, which with paging are not neighbours in memory.
#include "modes.hpp"

#include "guest.hpp"
#include "instructions.hpp"

using namespace bulkhead::guest;

extern "C" void* memcpy(void* destination, const void* source, std::size_t size);
extern "C" void* memset(void* destination, int value, std::size_t size);

namespace {

constexpr std::uint32_t kIoApic = 0xfec00000;
constexpr std::uint32_t kHole = 0xd0000000;
constexpr std::uint32_t kPresentWritable = 3, kLarge = 0x80;
constexpr std::uint32_t kPse = 0x10, kPae = 0x20, kLa57 = 0x1000;
constexpr std::uint32_t kWindow = 0x40000000;  // see below

struct alignas(4096) Page {
  std::uint8_t bytes[4096];
};
Page pages[4];
struct alignas(4096) Table32 {
  std::uint32_t entries[1024];
};
struct alignas(4096) Table64 {
  std::uint64_t entries[512];
};
Table32 directory32, table32;
Table64 map5, map4, pointers, pae_pointers, low_directory, window_directory, table64;
ModeRequest request;

std::uint32_t address_of(const void* object) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(object));
}

/// The low 4 MiB at their place, and the window:
///   page   0        1        2        3        4        5
///          pages[1] pages[0] IOAPIC   pages[3] pages[2] a hole
void make_tables() {
  const std::uint32_t window[] = {address_of(&pages[1]), address_of(&pages[0]), kIoApic,
                                  address_of(&pages[3]), address_of(&pages[2]), kHole};
  for (std::uint32_t number = 0; number < 6; ++number) {
    table32.entries[number] = window[number] | kPresentWritable;
    table64.entries[number] = window[number] | kPresentWritable;
  }
  directory32.entries[0] = 0 | kPresentWritable | kLarge;
  directory32.entries[kWindow >> 22] = address_of(&table32) | kPresentWritable;
  low_directory.entries[0] = 0 | kPresentWritable | kLarge;
  low_directory.entries[1] = 0x200000 | kPresentWritable | kLarge;
  window_directory.entries[0] = address_of(&table64) | kPresentWritable;
  pointers.entries[0] = address_of(&low_directory) | kPresentWritable;
  pointers.entries[kWindow >> 30] = address_of(&window_directory) | kPresentWritable;
  pae_pointers.entries[0] = address_of(&low_directory) | 1;
  pae_pointers.entries[kWindow >> 30] = address_of(&window_directory) | 1;
  map4.entries[0] = address_of(&pointers) | kPresentWritable;
  map5.entries[0] = address_of(&map4) | kPresentWritable;
}

/// What the fields of the request stand for, in physical addresses.
struct Places {
  std::uint64_t straddle, straddle_end;  // two bytes each
  std::uint64_t buffer, buffer_end;      // 8 bytes each
  std::uint64_t fragment, fragment_end;  // one byte, and the rest
};

void check_mode(const char* mode, const Places& places) {
  const std::uint64_t version_address = kIoApic + 0x10;
  memory_write<std::uint32_t>(kIoApic, 1);
  const auto version = memory_read<std::uint32_t>(version_address);
  memory_write<std::uint32_t>(kIoApic, 0x3e);
  memory_write<std::uint32_t>(version_address, 0x10000);
  if (places.straddle < kHole) memory_write<std::uint16_t>(places.straddle, 0x1234);
  const std::uint32_t straddled = memory_read<std::uint16_t>(places.straddle) |
                                  std::uint32_t{memory_read<std::uint16_t>(places.straddle_end)} << 16;
  for (std::uint64_t number = 0; number < 8; ++number) {
    memory_write<std::uint8_t>(places.buffer + number, static_cast<std::uint8_t>(0x10 + number));
    memory_write<std::uint8_t>(places.buffer_end + number, static_cast<std::uint8_t>(0x18 + number));
  }
  const char* fragment = request.code_size == CodeSize::Bits16   ? mode_fragment_16
                         : request.code_size == CodeSize::Bits32 ? mode_fragment_32
                                                                 : mode_fragment_64;
  memcpy(reinterpret_cast<void*>(places.fragment), fragment, 1);
  memcpy(reinterpret_cast<void*>(places.fragment_end), fragment + 1, 8);
  memset(request.found, 0, sizeof(request.found));
  memcpy(reinterpret_cast<void*>(std::uint64_t{kRealModeCode}), mode_code_16,
         static_cast<std::size_t>(mode_code_16_end - mode_code_16));
  const std::uint32_t hole = in32(kHolePort);

  print(mode);
  print("\n");
  mode_run(&request);
  const std::uint32_t* found = request.found;
  check_equal(found[0], version, "a load");
  check_equal(found[1], 0x3e, "a load with extension");
  check_equal(found[2], 0x10077, "OR and XCHG with a device");
  check_equal(found[3], 0x10033, "a load with a scaled index");
  check_equal(found[4], 1, "a comparison with a device");
  check_equal(found[5], 0x10011, "STOS to a device and MOVS from it");
  check_equal(found[6], straddled, "a load on two pages");
  if (places.straddle < kHole) check_equal(memory_read<std::uint16_t>(places.straddle), 0x8888, "a store on two pages");
  check_equal(found[7], 0x1f, "REP OUTS from two pages");
  check_equal(found[8], 1, "REP INS backwards: where it ends");
  check_equal(found[9], 0, "REP INS backwards: the count");
  std::uint32_t wrong = 0;
  for (std::uint64_t number = 0; number < 16; ++number) {
    const std::uint64_t at = number < 8 ? places.buffer + number : places.buffer_end + number - 8;
    std::uint8_t expected = number < 2 ? static_cast<std::uint8_t>(0x10 + number) : 0x1f;
    if (number >= 6 && number < 10) expected = static_cast<std::uint8_t>(hole >> (8 * (number - 6)));
    if (memory_read<std::uint8_t>(at) != expected) wrong |= 1u << number;
  }
  // Real mode went over its buffer once more.
  if (request.code_size == CodeSize::Bits16) wrong = 0;
  check_equal(wrong, 0, "what REP INS and a four-byte INS left on two pages");
  check_equal(found[10], version, "an instruction on two pages");
}

void without_paging(const char* mode, CodeSize code_size) {
  request = {.page_table = 0,
             .cr4 = 0x600,
             .long_mode = 0,
             .code_size = code_size,
             .device = kIoApic,
             .straddle = kIoApic - 2,
             .buffer = kRealModePages + 4096 - 8,
             .fragment = kRealModePages + 4096 - 9 - 1,
             .found = {}};
  // The fragment must not lie in the buffer, so it has a border of its own: that of the page before.
  request.fragment = kRealModePages - 1;
  const std::uint64_t buffer = request.buffer, fragment = request.fragment;
  check_mode(mode, {kIoApic - 2, kIoApic, buffer, buffer + 8, fragment, fragment + 1});
  if (code_size != CodeSize::Bits16) return;
  check_equal(request.found[11], 0x1004, "REP INS with a segment's base and 16-bit addresses: where it ends");
  std::uint32_t wrong = 0;
  for (std::uint64_t at = 0x5ffc; at < 0x6004; ++at) wrong += memory_read<std::uint8_t>(at) != 0x1f;
  check_equal(wrong, 0, "REP INS with a segment's base and 16-bit addresses: what it leaves");
}

void with_paging(const char* mode, const void* table, std::uint32_t cr4, std::uint32_t long_mode, CodeSize code_size) {
  request = {.page_table = address_of(table),
             .cr4 = 0x600 | cr4,
             .long_mode = long_mode,
             .code_size = code_size,
             .device = kWindow + 0x2000,
             .straddle = kWindow + 0x5000 - 2,
             .buffer = kWindow + 0x1000 - 8,
             .fragment = kWindow + 0x4000 - 1,
             .found = {}};
  check_mode(mode, {address_of(&pages[2]) + 4094u, kHole, address_of(&pages[1]) + 4088u, address_of(&pages[0]),
                    address_of(&pages[3]) + 4095u, address_of(&pages[2])});
}

}  // namespace

void bulkhead::guest::run() {
  make_tables();
  without_paging("real mode", CodeSize::Bits16);
  without_paging("protected mode without paging", CodeSize::Bits32);
  with_paging("32-bit paging", &directory32, kPse, 0, CodeSize::Bits32);
  with_paging("PAE paging", &pae_pointers, kPae, 0, CodeSize::Bits32);
  with_paging("4-level paging, 32-bit code", &map4, kPae, 0x100, CodeSize::Bits32);
  with_paging("4-level paging, 64-bit code", &map4, kPae, 0x100, CodeSize::Bits64);
  if (!(cpuid(7).ecx & 1u << 16)) return skip("5-level paging", "this processor does not have it");
  with_paging("5-level paging, 64-bit code", &map5, kPae | kLa57, 0x100, CodeSize::Bits64);
}
