// SPDX-License-Identifier: Apache-2.0
#include "guest.hpp"
#include "instructions.hpp"

namespace bulkhead::guest {
namespace {

constexpr std::uint16_t kCom1 = 0x3f8;
constexpr std::uint16_t kDebugExit = 0x501;
constexpr std::uint16_t kPowerControl = 0x604;  // PM1 control
std::uint32_t passed, failed;

void print_character(char character) {
  while (!(in8(kCom1 + 5) & 0x20)) pause();
  out8(kCom1, static_cast<std::uint8_t>(character));
}

void print_line(const char* verdict, const char* what) {
  print(verdict);
  print(" ");
  print(what);
}

}  // namespace

void print(const char* text) {
  for (; *text; ++text) {
    if (*text == '\n') print_character('\r');
    print_character(*text);
  }
}

void print_number(std::uint64_t number) {
  if (number >= 10) print_number(number / 10);
  const char digit[] = {static_cast<char>('0' + number % 10), 0};
  print(digit);
}

void print_hex(std::uint64_t number) {
  print("0x");
  int shift = 60;
  while (shift > 0 && !(number >> shift)) shift -= 4;
  for (; shift >= 0; shift -= 4) {
    const char digit[] = {"0123456789abcdef"[number >> shift & 15], 0};
    print(digit);
  }
}

void pass(const char* what) {
  ++passed;
  print_line("PASS", what);
  print("\n");
}

void fail(const char* what, const char* why) {
  ++failed;
  print_line("FAIL", what);
  print(": ");
  print(why);
  print("\n");
}

void fail(const char* what, const char* why, std::uint64_t found, std::uint64_t expected) {
  ++failed;
  print_line("FAIL", what);
  print(": ");
  print(why);
  print(": ");
  print_hex(found);
  print(" instead of ");
  print_hex(expected);
  print("\n");
}

void skip(const char* what, const char* why) {
  print_line("SKIP", what);
  print(": ");
  print(why);
  print("\n");
}

void expect(const char* what) {
  print_line("EXPECT", what);
  print("\n");
}

void check(bool good, const char* what, const char* why) {
  if (good)
    pass(what);
  else
    fail(what, why);
}

void check_equal(std::uint64_t found, std::uint64_t expected, const char* what) {
  if (found == expected)
    pass(what);
  else
    fail(what, "got", found, expected);
}

void finish() {
  print("END ");
  print_number(passed);
  print(" ");
  print_number(failed);
  print("\n");
  leave(failed ? 1 : 0);
}

void leave(std::uint8_t value) {
  disable_interrupts();
  while (!(in8(kCom1 + 5) & 0x40)) pause();
  out8(kDebugExit, value);
  out16(kPowerControl, 5 << 10 | 1 << 13);  // S5 of Bulkhead's machine
  out16(kPowerControl, 0 << 10 | 1 << 13);  // and of QEMU's
  for (;;) asm volatile("cli; hlt");
}

}  // namespace bulkhead::guest
