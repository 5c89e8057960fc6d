// SPDX-License-Identifier: Apache-2.0
#include "firmware/smbios.hpp"

#include <initializer_list>

namespace bulkhead::firmware {
namespace {

constexpr std::size_t kEntryPointSize = 24;
constexpr std::string_view kManufacturer = "Bulkhead";
constexpr std::string_view kProduct = "Bulkhead Virtual Machine";
constexpr std::string_view kReleaseDate = "01/01/2026";
constexpr std::uint64_t kCharacteristicsNotSupported = 1 << 3;
constexpr std::uint8_t kVirtualMachine = 1 << 4;  // of the second extension byte

/// A structure of the type and handle: the formatted area, then its strings, which it names by number from 1 on.
void structure(ByteWriter& table, std::uint8_t type, const ByteWriter& formatted,
               std::initializer_list<std::string_view> strings) {
  table.u8(type).u8(4 + formatted.size()).u16(type).bytes(formatted.content());
  for (std::string_view string : strings) table.text(string).u8(0);
  table.u8(0);
  if (strings.size() == 0) table.u8(0);
}

Bytes build_structures(const MachineDescription& machine) {
  ByteWriter table;
  ByteWriter bios;
  bios.u8(1).u8(2).u16(0xe000).u8(3).u8(1);  // strings, segment, and 128 KiB
  bios.u64(kCharacteristicsNotSupported).u8(0).u8(kVirtualMachine);
  bios.u8(0xff).u8(0xff).u8(0xff).u8(0xff).u16(0);  // no releases of BIOS and embedded controller
  structure(table, 0, bios, {kManufacturer, BULKHEAD_VERSION, kReleaseDate});

  ByteWriter system;
  system.u8(1).u8(2).u8(3).u8(0).bytes(machine.uuid).u8(6).u8(0).u8(4);  // woken by the power switch
  structure(table, 1, system, {kManufacturer, kProduct, BULKHEAD_VERSION, kManufacturer});

  ByteWriter chassis;
  chassis.u8(1).u8(1).u8(2).u8(0).u8(0);   // type: other
  chassis.u8(3).u8(3).u8(3).u8(3).u32(0);  // states: safe; security: none
  chassis.u8(0).u8(0).u8(0).u8(0).u8(0);   // height, cords, no contained elements, no SKU
  structure(table, 3, chassis, {kManufacturer, BULKHEAD_VERSION});

  structure(table, 32, ByteWriter().zeros(7), {});  // booted without errors
  structure(table, 127, ByteWriter(), {});
  return table.content();
}

}  // namespace

Bytes build_smbios(const MachineDescription& machine, std::uint64_t base) {
  constexpr std::size_t kTableOffset = 32;
  static_assert(kEntryPointSize <= kTableOffset);
  const Bytes structures = build_structures(machine);
  ByteWriter entry_point;
  entry_point.text("_SM3_").u8(0).u8(kEntryPointSize).u8(3).u8(6).u8(0).u8(1).u8(0);
  entry_point.u32(structures.size()).u64(base + kTableOffset);
  Bytes bytes = entry_point.content();
  bytes[5] = checksum(bytes);
  return ByteWriter().bytes(bytes).align(kTableOffset).bytes(structures).content();
}

}  // namespace bulkhead::firmware
