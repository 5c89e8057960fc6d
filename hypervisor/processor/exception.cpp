// SPDX-License-Identifier: Apache-2.0
//
// The interrupt descriptor table, and what becomes of the hypervisor's own exceptions.
#include <array>
#include <cstddef>
#include <cstdint>

#include "hypervisor/machine.hpp"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/processor/privileged.hpp"

extern "C" const std::byte exception_entries[];
extern "C" const std::byte try_msr_read_at[], try_msr_write_at[], try_msr_refused[];
extern "C" bool try_msr_read(std::uint32_t index, std::uint64_t* value);
extern "C" bool try_msr_write(std::uint32_t index, std::uint64_t value);

namespace bulkhead::hypervisor {
namespace {

constexpr unsigned kVectors = 32;
constexpr unsigned kGeneralProtection = 13;
constexpr unsigned kPageFault = 14;
constexpr std::uint16_t kCodeSelector = 8;
constexpr std::uint64_t kCr4PhysicalAddressExtension = 1u << 5, kCr4FxSave = 1u << 9, kCr4Xsave = 1u << 18;

struct Gate {
  std::uint16_t offset_low, selector;
  std::uint8_t stack, type;
  std::uint16_t offset_middle;
  std::uint32_t offset_high, reserved;
};
static_assert(sizeof(Gate) == 16);

std::array<Gate, kVectors> table;

constexpr unsigned kSaved = 9;
constexpr char kSavedNames[kSaved][4] = {"r11", "r10", "r9", "r8", "rdi", "rsi", "rdx", "rcx", "rax"};

struct ExceptionFrame {
  std::uint64_t saved[kSaved];
  std::uint64_t vector, error_code;
  std::uint64_t rip, cs, rflags, rsp, ss;
};

}  // namespace

extern "C" void exception_in_hypervisor(ExceptionFrame& frame) {
  const auto at = reinterpret_cast<const std::byte*>(frame.rip);
  if (frame.vector == kGeneralProtection && (at == try_msr_read_at || at == try_msr_write_at)) {
    frame.rip = reinterpret_cast<std::uint64_t>(try_msr_refused);
    return;
  }
  console::panic_mode();
  console::line("exception in the hypervisor", console::Field{"vector", frame.vector},
                console::Field{"error", frame.error_code}, console::Field{"rip", frame.rip},
                console::Field{"rsp", frame.rsp}, console::Field{"rflags", frame.rflags},
                console::Field{"cr2", frame.vector == kPageFault ? privileged::read_cr2() : 0});
  console::Field registers[kSaved];
  for (unsigned index = 0; index < kSaved; ++index) registers[index] = {kSavedNames[index], frame.saved[index]};
  console::write_line("registers", registers, kSaved);
  machine::panic("an exception in the hypervisor");
}

bool privileged::try_read_msr(std::uint32_t index, std::uint64_t& value) { return try_msr_read(index, &value); }
bool privileged::try_write_msr(std::uint32_t index, std::uint64_t value) { return try_msr_write(index, value); }

void processors::initialize_current() {
  for (unsigned vector = 0; vector < kVectors; ++vector) {
    const auto entry = reinterpret_cast<std::uint64_t>(exception_entries + vector * 16);
    table[vector] = {static_cast<std::uint16_t>(entry),
                     kCodeSelector,
                     0,
                     0x8e,
                     static_cast<std::uint16_t>(entry >> 16),
                     static_cast<std::uint32_t>(entry >> 32),
                     0};
  }
  struct [[gnu::packed]] {
    std::uint16_t limit;
    std::uint64_t base;
  } const pointer{sizeof table - 1, reinterpret_cast<std::uint64_t>(table.data())};
  asm volatile("lidt %0" : : "m"(pointer));
  const bool xsave = machine::host_cpuid(1, 0).ecx & (1u << 26);
  privileged::write_cr4(kCr4PhysicalAddressExtension | kCr4FxSave | (xsave ? kCr4Xsave : 0));
}

}  // namespace bulkhead::hypervisor
