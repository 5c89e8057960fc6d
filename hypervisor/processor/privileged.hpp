// SPDX-License-Identifier: Apache-2.0
//
// One function for each privileged instruction, and nothing else.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::privileged {

inline void out8(std::uint16_t port, std::uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
inline void out16(std::uint16_t port, std::uint16_t value) { asm volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
inline void out32(std::uint16_t port, std::uint32_t value) { asm volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
template <typename T>
T in(std::uint16_t port) {
  T value;
  asm volatile("in %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
inline std::uint8_t in8(std::uint16_t port) { return in<std::uint8_t>(port); }
inline std::uint16_t in16(std::uint16_t port) { return in<std::uint16_t>(port); }
inline std::uint32_t in32(std::uint16_t port) { return in<std::uint32_t>(port); }

inline std::uint64_t read_msr(std::uint32_t index) {
  std::uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return (std::uint64_t{high} << 32) | low;
}
inline void write_msr(std::uint32_t index, std::uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(index), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
               : "memory");
}

/// As above, but a general protection fault only makes the result false (processor/exception.S).
bool try_read_msr(std::uint32_t index, std::uint64_t& value);
bool try_write_msr(std::uint32_t index, std::uint64_t value);

inline std::uint64_t read_tsc() {
  std::uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (std::uint64_t{high} << 32) | low;
}

inline std::uint64_t read_cr2() {
  std::uint64_t value;
  asm volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}
inline void write_cr3(std::uint64_t value) { asm volatile("mov %0, %%cr3" : : "r"(value) : "memory"); }
inline void write_cr4(std::uint64_t value) { asm volatile("mov %0, %%cr4" : : "r"(value) : "memory"); }

inline std::uint64_t read_xcr0() {
  std::uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}
inline void write_xcr0(std::uint64_t value) {
  asm volatile("xsetbv"
               :
               : "c"(0), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32)));
}

inline void disable_interrupts() { asm volatile("cli" : : : "memory"); }
inline void enable_interrupts() { asm volatile("sti" : : : "memory"); }
inline void pause() { asm volatile("pause" : : : "memory"); }
inline void halt() { asm volatile("hlt" : : : "memory"); }

}  // namespace bulkhead::hypervisor::privileged
