// SPDX-License-Identifier: Apache-2.0
#include "firmware/entry_state.hpp"

#include "firmware/byte_writer.hpp"
#include "firmware/memory_layout.hpp"

namespace bulkhead::firmware {
namespace {

using abi::RegisterName;

constexpr std::uint16_t kCodeSelector = 0x10;
constexpr std::uint16_t kDataSelector = 0x18;
// GDT entries with base 0 and limit 4 GiB; abi::SegmentRegister has the attributes from bits 40 to 55 of them.
constexpr std::uint64_t kCode64 = 0x00af'9b00'0000'ffff;
constexpr std::uint64_t kCode32 = 0x00cf'9b00'0000'ffff;
constexpr std::uint64_t kData = 0x00cf'9300'0000'ffff;
constexpr std::uint16_t kTaskSegmentBusy = 0x008b;
constexpr std::size_t kGdtSize = 4 * sizeof(std::uint64_t);

constexpr std::uint64_t kCr0ProtectedMode = 0x11;  // PE, ET
constexpr std::uint64_t kCr0Paging = 0x8000'0031;  // PG, NE, ET, PE
constexpr std::uint64_t kCr4PhysicalAddressExtension = 1 << 5;
constexpr std::uint64_t kEferLongMode = 1 << 8 | 1 << 10;  // LME, LMA
constexpr std::uint64_t kRflagsNone = 2;

// Page table entries: present, writable; in a page directory also a page of 2 MiB.
constexpr std::uint64_t kTableEntry = 0x3;
constexpr std::uint64_t kLargePage = 0x83;
constexpr std::uint64_t kPageDirectories = 4;

void add(EntryState& state, RegisterName name, std::uint64_t value) {
  engine::RegisterAssignment assignment{name, {}};
  assignment.value.number = value;
  state.registers.push_back(assignment);
}

void add(EntryState& state, RegisterName name, std::uint16_t selector, std::uint32_t limit, std::uint16_t attributes) {
  engine::RegisterAssignment assignment{name, {}};
  assignment.value.segment = {.base = 0, .limit = limit, .selector = selector, .attributes = attributes};
  state.registers.push_back(assignment);
}

void add_segments(EntryState& state, std::uint64_t code) {
  const auto attributes = [](std::uint64_t entry) { return static_cast<std::uint16_t>(entry >> 40 & 0xf0ff); };
  add(state, RegisterName::Cs, kCodeSelector, UINT32_MAX, attributes(code));
  for (RegisterName name : {RegisterName::Ds, RegisterName::Es, RegisterName::Ss, RegisterName::Fs, RegisterName::Gs}) {
    add(state, name, kDataSelector, UINT32_MAX, attributes(kData));
  }
  add(state, RegisterName::Tr, 0, 0xffff, kTaskSegmentBusy);
  engine::RegisterAssignment gdtr{RegisterName::Gdtr, {}};
  gdtr.value.table = {.padding = {}, .limit = kGdtSize - 1, .base = kGdt};
  state.registers.push_back(gdtr);
}

void add_general(EntryState& state, const EntryRegisters& registers) {
  add(state, RegisterName::Rip, registers.rip);
  add(state, RegisterName::Rflags, kRflagsNone);
  add(state, RegisterName::Rsp, kStackTop);
  add(state, RegisterName::Rax, registers.rax);
  add(state, RegisterName::Rbx, registers.rbx);
  add(state, RegisterName::Rcx, 0);
  add(state, RegisterName::Rdx, 0);
  add(state, RegisterName::Rsi, registers.rsi);
  add(state, RegisterName::Rdi, 0);
  add(state, RegisterName::Rbp, 0);
}

Result<> write_gdt(engine::GuestMemory& memory, std::uint64_t code) {
  const Bytes gdt = ByteWriter().u64(0).u64(0).u64(code).u64(kData).content();
  if (!memory.write(kGdt, gdt)) return fail("the machine has no memory for the GDT");
  return {};
}

Result<> write_page_tables(engine::GuestMemory& memory) {
  constexpr std::uint64_t kPage = 0x1000;
  constexpr std::uint64_t kPointers = kPageTables + kPage;
  constexpr std::uint64_t kDirectories = kPointers + kPage;
  ByteWriter tables;
  tables.u64(kPointers | kTableEntry).align(kPage);
  for (std::uint64_t i = 0; i < kPageDirectories; ++i) tables.u64((kDirectories + i * kPage) | kTableEntry);
  tables.align(kPage);
  for (std::uint64_t page = 0; page < kPageDirectories * 512; ++page) tables.u64(page << 21 | kLargePage);
  if (!memory.write(kPageTables, tables.content())) return fail("the machine has no memory for page tables");
  return {};
}

}  // namespace

Result<EntryState> enter_64_bit(engine::GuestMemory& memory, const EntryRegisters& registers) {
  if (auto ok = write_gdt(memory, kCode64); !ok) return std::unexpected(ok.error());
  if (auto ok = write_page_tables(memory); !ok) return std::unexpected(ok.error());
  EntryState state;
  add(state, RegisterName::Cr4, kCr4PhysicalAddressExtension);
  add(state, RegisterName::Cr3, kPageTables);
  add(state, RegisterName::Efer, kEferLongMode);
  add(state, RegisterName::Cr0, kCr0Paging);
  add_segments(state, kCode64);
  add_general(state, registers);
  return state;
}

Result<EntryState> enter_32_bit(engine::GuestMemory& memory, const EntryRegisters& registers) {
  if (auto ok = write_gdt(memory, kCode32); !ok) return std::unexpected(ok.error());
  EntryState state;
  add(state, RegisterName::Cr4, 0);
  add(state, RegisterName::Efer, 0);
  add(state, RegisterName::Cr0, kCr0ProtectedMode);
  add_segments(state, kCode32);
  add_general(state, registers);
  return state;
}

}  // namespace bulkhead::firmware
