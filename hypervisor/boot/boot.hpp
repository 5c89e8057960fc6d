// SPDX-License-Identifier: Apache-2.0
//
// From the loader to the root's first instruction, in this order:
//
//   main.cpp         what the loader says (multiboot.cpp), what ACPI says (acpi.cpp), is all there that is needed?
//   address_space.cpp  the hypervisor moves to the top of memory and gets its own page tables
//   second_level.cpp   the root's second-level table and the permission maps
//   start_processors.cpp  all other processors come up and wait for the root's SIPI
//   load_linux.cpp   the root's kernel is put where it wants to be
//
// The code of this folder stays where the loader put it, and its memory goes back to the root.
#pragma once

#include <cstdint>
#include <cstring>

#include "hypervisor/boot/acpi.hpp"
#include "hypervisor/boot/information.hpp"
#include "hypervisor/boot/layout.h"
#include "hypervisor/boot/reserve.hpp"
#include "hypervisor/hypervisor.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/root/linux_image.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

extern "C" const std::byte image_start[], rodata_start[], data_start[], resident_end[], image_file_end[], image_end[];

namespace bulkhead::hypervisor::boot {

/// All that the steps hand on to each other.
struct Boot {
  Information information;
  AcpiFacts acpi;
  Frame base;  // of the hypervisor's memory
  std::uint64_t frame_count = 0;
  Reserve reserve;
  Frame zero_frame;
};
extern Boot boot;

/// The machine's memory, and what is in it there, aligned or not.
inline std::byte* at(std::uint64_t address) { return reinterpret_cast<std::byte*>(BULKHEAD_DIRECT_MAP + address); }
template <typename T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// Prints why, and stops: there is nothing to go back to.
[[noreturn]] void fail(const char* why);

/// A frame of the reserve, or fail.
Frame take(std::uint64_t count = 1, std::uint64_t alignment = 1);

/// Frames that page tables and permission maps will take.
std::uint64_t frames_for_tables();
/// Copies the resident image to the reserve and goes on there.
void move_to_reserve();

void build_root_table();
void build_permission_maps();

/// Frames that one logical processor takes.
inline constexpr std::uint64_t kFramesPerProcessor = 5;
void create_processors();
/// `page`: free memory below 1 MiB.
void start_processors(std::uint64_t page);

/// Where the root starts.
struct RootEntry {
  std::uint32_t kernel;
  std::uint32_t parameters;
  std::uint64_t gdt;
};
/// Frees nothing and fails with a sentence. `low`: three free pages below 1 MiB.
RootEntry load_linux(std::uint64_t low);
void enter_at(VpHardware& root, const RootEntry& entry);

/// Measures the time stamp counter.
std::uint64_t measure_tsc(std::uint16_t pm_timer_port);
void wait_microseconds(std::uint64_t microseconds);

}  // namespace bulkhead::hypervisor::boot
