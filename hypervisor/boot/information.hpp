// SPDX-License-Identifier: Apache-2.0
//
// What the loader told us, in one form for multiboot 1 and 2, copied out of the loader's memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "hypervisor/root/linux_image.hpp"
#include "hypervisor/root/memory_map.hpp"

namespace bulkhead::hypervisor::boot {

inline constexpr std::size_t kCommandLineSize = 2048;
inline constexpr std::size_t kRsdpSize = 36;

/// A file that the loader put in memory.
struct Module {
  std::uint64_t start = 0;  // physical
  std::uint64_t end = 0;

  std::uint64_t size() const { return end - start; }
};

struct Information {
  root::MemoryMap memory;
  Module kernel;
  Module initial_ramdisk;  // empty: there is none
  std::array<char, kCommandLineSize> kernel_command_line{};
  std::uint64_t rsdp = 0;                        // physical address of `rsdp_copy`; 0: to be looked for
  std::array<std::byte, kRsdpSize> rsdp_copy{};  // ACPI's root pointer as the loader gives it
  root::Framebuffer framebuffer;
  bool efi = false;  // the firmware is UEFI's
};

/// Reads what the loader left. `magic` and `address` are EAX and EBX of the loader. Returns what is wrong, or nullptr.
const char* read_information(std::uint32_t magic, std::uint64_t address, Information& information);

}  // namespace bulkhead::hypervisor::boot
