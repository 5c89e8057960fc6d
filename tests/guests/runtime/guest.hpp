// SPDX-License-Identifier: Apache-2.0
//
// Tiny guests that test the machine they run on: each is one multiboot 1 image with one `run` of its own, on this runtime.
//
//   1 MiB   multiboot header, code, data, page tables: 64-bit mode, the low 4 GiB mapped one to one
//   64 KiB  start-up code of further processors, when a guest starts them
//
// A guest says what it finds line by line on COM1: "PASS what", "FAIL what: why" or "SKIP what: why", and at the end
// "END passed failed". It leaves by the debug exit port (0: nothing failed, 1: something did), or where there is none
// by power-off. A guest for which being stopped is the right end says so: "EXPECT what", and then does it.
// The images also boot in QEMU: -kernel GUEST.elf -device isa-debug-exit,iobase=0x501.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace bulkhead::guest {

/// What the image tests. Every image defines it; the runtime calls it once, with interrupts disabled.
void run();

/// The command line, as multiboot gives it; never null.
const char* command_line();
bool command_line_has(const char* word);

// Output on COM1.
void print(const char* text);
void print_number(std::uint64_t number);
void print_hex(std::uint64_t number);

// The report.
void pass(const char* what);
void fail(const char* what, const char* why);
void fail(const char* what, const char* why, std::uint64_t found, std::uint64_t expected);
void skip(const char* what, const char* why);
/// The machine should end this guest because of what it does next.
void expect(const char* what);
void check(bool good, const char* what, const char* why);
/// Passes if the two are equal, else fails and prints both.
void check_equal(std::uint64_t found, std::uint64_t expected, const char* what);
/// Prints the sum and ends the machine.
[[noreturn]] void finish();
/// Ends the machine without a word.
[[noreturn]] void leave(std::uint8_t value);

}  // namespace bulkhead::guest
