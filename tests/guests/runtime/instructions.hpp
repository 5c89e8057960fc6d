// SPDX-License-Identifier: Apache-2.0
//
// Instructions that C++ has no words for.
#pragma once

#include <cstdint>

namespace bulkhead::guest {

inline void out8(std::uint16_t port, std::uint8_t value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
inline void out16(std::uint16_t port, std::uint16_t value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
inline void out32(std::uint16_t port, std::uint32_t value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
inline std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline std::uint16_t in16(std::uint16_t port) {
  std::uint16_t value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline std::uint32_t in32(std::uint16_t port) {
  std::uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

inline std::uint64_t read_msr(std::uint32_t msr) {
  std::uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
  return low | std::uint64_t{high} << 32;
}
inline void write_msr(std::uint32_t msr, std::uint64_t value) {
  asm volatile("wrmsr" ::"c"(msr), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
               : "memory");
}

struct CpuidResult {
  std::uint32_t eax, ebx, ecx, edx;
};
inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  CpuidResult result;
  asm volatile("cpuid"
               : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
               : "a"(leaf), "c"(subleaf));
  return result;
}

inline std::uint64_t tsc() {
  std::uint32_t low, high;
  asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
  return low | std::uint64_t{high} << 32;
}

inline std::uint64_t read_cr0() {
  std::uint64_t value;
  asm volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr2() {
  std::uint64_t value;
  asm volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr3() {
  std::uint64_t value;
  asm volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr4() {
  std::uint64_t value;
  asm volatile("mov %%cr4, %0" : "=r"(value));
  return value;
}
inline void write_cr0(std::uint64_t value) { asm volatile("mov %0, %%cr0" ::"r"(value) : "memory"); }
inline void write_cr3(std::uint64_t value) { asm volatile("mov %0, %%cr3" ::"r"(value) : "memory"); }
inline void write_cr4(std::uint64_t value) { asm volatile("mov %0, %%cr4" ::"r"(value) : "memory"); }
inline void invalidate_page(std::uint64_t address) { asm volatile("invlpg (%0)" ::"r"(address) : "memory"); }

inline void enable_interrupts() { asm volatile("sti" ::: "memory"); }
inline void disable_interrupts() { asm volatile("cli" ::: "memory"); }
/// Takes the interrupts that are pending now.
inline void take_interrupts() { asm volatile("sti; nop; nop; cli" ::: "memory"); }
/// Enables interrupts, waits for one, and disables them.
inline void wait_for_interrupt() { asm volatile("sti; hlt; cli" ::: "memory"); }
inline void pause() { asm volatile("pause" ::: "memory"); }

struct [[gnu::packed]] DescriptorTable {
  std::uint16_t limit;
  std::uint64_t base;
};
inline void load_idt(const DescriptorTable& table) { asm volatile("lidt %0" ::"m"(table) : "memory"); }

template <typename T>
T memory_read(std::uint64_t address) {
  return *reinterpret_cast<const volatile T*>(address);
}
template <typename T>
void memory_write(std::uint64_t address, T value) {
  *reinterpret_cast<volatile T*>(address) = value;
}

}  // namespace bulkhead::guest
