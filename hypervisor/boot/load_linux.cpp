// SPDX-License-Identifier: Apache-2.0
//
// Puts the root's kernel and initial RAM disk where the kernel wants them, and sets the boot processor's registers for Linux'
// 32-bit entry: flat segments, paging off, RSI at boot_params.
//
//   low page 0: boot_params     1: command line     2: GDT, ACPI's root pointer
//
// A root that UEFI's firmware started gets its framebuffer and ACPI's root pointer, but not its runtime services.
#include <algorithm>

#include "hypervisor/boot/boot.hpp"
#include "hypervisor/boot/layout.h"

namespace bulkhead::hypervisor::boot {
namespace {

constexpr std::uint64_t kOneMiB = 0x100000;
constexpr std::uint64_t kRsdpOffset = 64;  // in low page 2

bool overlap(std::uint64_t first, std::uint64_t first_size, std::uint64_t second, std::uint64_t second_size) {
  return first < second + second_size && second < first + first_size;
}

/// The initial RAM disk goes first, as high as possible, so that it is out of the kernel's way.
std::uint64_t place_initial_ramdisk(const root::LinuxImage& image) {
  const Module& disk = boot.information.initial_ramdisk;
  if (disk.size() == 0) return 0;
  const std::uint64_t ceiling = std::min(image.initial_ramdisk_limit + 1, boot.base.address());
  const auto place = boot.information.memory.highest(disk.size(), kPageSize, kOneMiB, ceiling);
  if (!place || overlap(*place, disk.size(), boot.information.kernel.start, boot.information.kernel.size())) {
    fail("not enough memory below 4 GiB for the root's kernel and initial RAM disk");
  }
  std::memmove(at(*place), at(disk.start), disk.size());
  return *place;
}

std::uint64_t place_kernel(const root::LinuxImage& image, std::uint64_t disk) {
  const std::uint64_t ceiling = disk ? disk : boot.base.address();
  // What still runs here ends where the loaded image ends.
  const std::uint64_t floor = BULKHEAD_LOAD_BASE + static_cast<std::uint64_t>(image_end - image_start);
  const std::uint64_t preferred = image.preferred_address;
  if (preferred >= floor && preferred + image.memory_needed <= ceiling &&
      boot.information.memory.is_usable(preferred, preferred + image.memory_needed)) {
    return preferred;
  }
  const auto place = boot.information.memory.lowest(image.memory_needed, image.alignment, floor, ceiling);
  if (!image.relocatable || !place) fail("not enough memory below 4 GiB for the root's kernel");
  return *place;
}

}  // namespace

RootEntry load_linux(std::uint64_t low) {
  const Module& kernel = boot.information.kernel;
  const std::span<const std::byte> file(at(kernel.start), kernel.size());
  const auto image = root::read_linux_image(file);
  if (!image) fail(image.error());
  const auto& command_line = boot.information.kernel_command_line;
  if (strnlen(command_line.data(), command_line.size()) > image->command_line_limit) {
    fail("the kernel's command line is longer than the kernel takes");
  }
  // The disk's new place may be where the kernel's file is not; the kernel's place may be where its own file is.
  const std::uint64_t disk = place_initial_ramdisk(*image);
  const std::uint64_t place = place_kernel(*image, disk);

  std::byte* parameters = at(low);
  std::byte* line = at(low + kPageSize);
  std::byte* gdt = at(low + 2 * kPageSize);
  const std::uint64_t rsdp = low + 2 * kPageSize + kRsdpOffset;
  std::memcpy(at(rsdp), at(boot.acpi.rsdp), kRsdpSize);
  const root::LinuxPlacement placement{
      .kernel = place,
      .initial_ramdisk = disk,
      .initial_ramdisk_size = static_cast<std::uint32_t>(boot.information.initial_ramdisk.size()),
      .command_line = static_cast<std::uint32_t>(low + kPageSize),
      // The loader's own is gone when the root looks for it.
      .rsdp = boot.information.rsdp ? rsdp : boot.acpi.rsdp,
      .framebuffer = boot.information.framebuffer};
  root::build_boot_parameters(file, placement, boot.information.memory,
                              *reinterpret_cast<root::BootParameters*>(parameters));
  std::memcpy(line, command_line.data(), command_line.size());
  constexpr std::uint64_t kGdt[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
  std::memcpy(gdt, kGdt, sizeof kGdt);
  std::memmove(at(place), file.data() + image->kernel_offset, image->kernel_size);
  return {static_cast<std::uint32_t>(place), static_cast<std::uint32_t>(low), low + 2 * kPageSize};
}

void enter_at(VpHardware& root, const RootEntry& entry) {
  using abi::RegisterName;
  constexpr abi::SegmentRegister kCode{0, 0xffffffff, 0x10, 0xc09b};
  constexpr abi::SegmentRegister kData{0, 0xffffffff, 0x18, 0xc093};
  root.set_register(RegisterName::Cs, {.segment = kCode});
  for (const RegisterName name :
       {RegisterName::Ds, RegisterName::Es, RegisterName::Ss, RegisterName::Fs, RegisterName::Gs}) {
    root.set_register(name, {.segment = kData});
  }
  root.set_register(RegisterName::Gdtr, {.table = {{}, 31, entry.gdt}});
  root.set_register(RegisterName::Cr0, numeric(0x11));  // protected mode
  for (std::uint64_t& general : root.general) general = 0;
  root.general[6] = entry.parameters;
  root.rip = entry.kernel;
}

}  // namespace bulkhead::hypervisor::boot
