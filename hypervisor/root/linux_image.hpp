// SPDX-License-Identifier: Apache-2.0
//
// A Linux bzImage: Linux "Boot protocol" documentation, "The Real-Mode Kernel Header".
//
//   file:  | boot sector, header | set-up code | protected-mode kernel |
//                                              └── goes to `address`, entered there at 32 bit
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "hypervisor/root/memory_map.hpp"

namespace bulkhead::hypervisor::root {

/// What the kernel's file says about itself.
struct LinuxImage {
  std::size_t kernel_offset;  // of the protected-mode kernel in the file
  std::size_t kernel_size;
  std::uint64_t preferred_address;
  std::uint64_t alignment;
  bool relocatable;
  std::uint32_t memory_needed;          // from its address on, while it unpacks
  std::uint64_t initial_ramdisk_limit;  // highest address of its last byte
  std::uint32_t command_line_limit;
};

/// Checks the header. The error is a sentence.
std::expected<LinuxImage, const char*> read_linux_image(std::span<const std::byte> file);

/// boot_params, "the zero page".
using BootParameters = std::array<std::byte, 4096>;

/// A linear framebuffer that the firmware set up.
struct Framebuffer {
  std::uint64_t address = 0;
  std::uint32_t pitch = 0;  // bytes from line to line
  std::uint16_t width = 0;  // 0: there is none
  std::uint16_t height = 0;
  std::uint8_t depth = 0;  // bits of a pixel
  struct Channel {
    std::uint8_t position = 0;  // of the lowest bit
    std::uint8_t size = 0;
  };
  std::array<Channel, 3> colours{};  // red, green, blue
};

struct LinuxPlacement {
  std::uint64_t kernel;
  std::uint64_t initial_ramdisk;
  std::uint32_t initial_ramdisk_size;
  std::uint32_t command_line;
  std::uint64_t rsdp;
  Framebuffer framebuffer{};
};

/// Fills `parameters` from the file's header, the placement and the memory map.
void build_boot_parameters(std::span<const std::byte> file, const LinuxPlacement& placement, const MemoryMap& memory,
                           BootParameters& parameters);

}  // namespace bulkhead::hypervisor::root
