// SPDX-License-Identifier: Apache-2.0
//
// What the compiler takes for granted.
#include <cstddef>
#include <cstdint>

#include "hypervisor/machine.hpp"

namespace {

/// Below this, a loop is quicker than what REP takes to begin.
constexpr std::size_t kRepThreshold = 64;

/// One load and one store, aligned or not, which the compiler must not take for a memcpy.
void copy_word(void* to, const void* from) {
  std::uint64_t word;
  asm volatile("movq (%2), %0; movq %0, (%1)" : "=&r"(word) : "r"(to), "r"(from) : "memory");
}
void copy_byte(void* to, const void* from) {
  std::uint8_t byte;
  asm volatile("movb (%2), %0; movb %0, (%1)" : "=&q"(byte) : "r"(to), "r"(from) : "memory");
}

}  // namespace

extern "C" {

void* memcpy(void* __restrict to, const void* __restrict from, std::size_t size) {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  if (size >= kRepThreshold) {
    std::size_t words = size / 8;
    asm volatile("rep movsq" : "+D"(target), "+S"(source), "+c"(words) : : "memory");
    size %= 8;
  }
  for (; size >= 8; size -= 8, target += 8, source += 8) copy_word(target, source);
  for (; size; --size) copy_byte(target++, source++);
  return to;
}

void* memset(void* to, int value, std::size_t size) {
  void* target = to;
  std::size_t words = size / 8, bytes = size % 8;
  const std::uint64_t word = 0x0101010101010101u * static_cast<unsigned char>(value);
  asm volatile("rep stosq" : "+D"(target), "+c"(words) : "a"(word) : "memory");
  asm volatile("rep stosb" : "+D"(target), "+c"(bytes) : "a"(word) : "memory");
  return to;
}

void* memmove(void* to, const void* from, std::size_t size) {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  // Forwards, each word is read before anything behind it is written.
  if (target <= source || target >= source + size) return memcpy(to, from, size);
  for (; size % 8; --size) copy_byte(target + size - 1, source + size - 1);
  for (; size; size -= 8) copy_word(target + size - 8, source + size - 8);
  return to;
}

int memcmp(const void* first, const void* second, std::size_t size) {
  const auto* a = static_cast<const unsigned char*>(first);
  const auto* b = static_cast<const unsigned char*>(second);
  for (; size; --size, ++a, ++b) {
    if (*a != *b) return *a - *b;
  }
  return 0;
}

std::size_t strlen(const char* text) {
  std::size_t length = 0;
  while (text[length]) ++length;
  return length;
}

std::size_t strnlen(const char* text, std::size_t limit) {
  std::size_t length = 0;
  while (length < limit && text[length]) ++length;
  return length;
}

void __cxa_pure_virtual() { bulkhead::hypervisor::machine::panic("a pure virtual function was called"); }

}  // extern "C"
