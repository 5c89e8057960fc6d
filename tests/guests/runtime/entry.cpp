// SPDX-License-Identifier: Apache-2.0
//
// From the assembly code to the guest.
#include "guest.hpp"
#include "interrupt.hpp"
#include "processors.hpp"

namespace bulkhead::guest {

[[noreturn]] void serve_work(std::uint32_t number);

}  // namespace bulkhead::guest

extern "C" {

struct MultibootInformation {
  std::uint32_t flags, memory_lower, memory_upper, boot_device, command_line;
};
extern const MultibootInformation* multiboot_information;
extern void (*image_constructors[])();
extern void (*image_constructors_end[])();

[[noreturn]] void guest_entry(std::uint32_t number) {
  using namespace bulkhead::guest;
  if (number != 0) {
    load_interrupt_table();
    serve_work(number);
  }
  for (auto constructor = image_constructors; constructor != image_constructors_end; ++constructor) (*constructor)();
  load_interrupt_table();
  run();
  finish();
}

void* memset(void* destination, int value, std::size_t size) {
  void* to = destination;
  asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
  return destination;
}

void* memcpy(void* destination, const void* source, std::size_t size) {
  void* to = destination;
  asm volatile("rep movsb" : "+D"(to), "+S"(source), "+c"(size)::"memory");
  return destination;
}

}  // extern "C"

namespace bulkhead::guest {

const char* command_line() {
  constexpr std::uint32_t kHasCommandLine = 4;
  if (!(multiboot_information->flags & kHasCommandLine)) return "";
  return reinterpret_cast<const char*>(static_cast<std::uint64_t>(multiboot_information->command_line));
}

bool command_line_has(const char* word) {
  for (const char* at = command_line(); *at;) {
    while (*at == ' ') ++at;
    const char* wanted = word;
    while (*wanted && *at == *wanted) ++at, ++wanted;
    if (!*wanted && (*at == ' ' || !*at)) return true;
    while (*at && *at != ' ') ++at;
  }
  return false;
}

}  // namespace bulkhead::guest
