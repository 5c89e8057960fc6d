// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/root/linux_image.hpp"

#include <cstring>

namespace bulkhead::hypervisor::root {
namespace {

// Offsets in the file, and the same in boot_params.
constexpr std::size_t kSetupSectors = 0x1f1;
constexpr std::size_t kJumpOffset = 0x201;
constexpr std::size_t kSignature = 0x202;
constexpr std::size_t kVersion = 0x206;
constexpr std::size_t kTypeOfLoader = 0x210;
constexpr std::size_t kLoadFlags = 0x211;
constexpr std::size_t kCode32Start = 0x214;
constexpr std::size_t kRamdiskImage = 0x218;
constexpr std::size_t kRamdiskSize = 0x21c;
constexpr std::size_t kCommandLinePointer = 0x228;
constexpr std::size_t kRamdiskLimit = 0x22c;
constexpr std::size_t kKernelAlignment = 0x230;
constexpr std::size_t kRelocatable = 0x234;
constexpr std::size_t kCommandLineSize = 0x238;
constexpr std::size_t kPreferredAddress = 0x258;
constexpr std::size_t kInitSize = 0x260;
constexpr std::size_t kHeaderEnd = 0x268;

// Offsets in boot_params only.
constexpr std::size_t kScreenInfo = 0x000;
constexpr std::size_t kAcpiRsdp = 0x070;
constexpr std::size_t kExtRamdiskImage = 0x0c0;
constexpr std::size_t kE820Entries = 0x1e8;
constexpr std::size_t kE820Table = 0x2d0;

constexpr std::uint8_t kLoadedHigh = 1;
constexpr std::uint8_t kUnknownLoader = 0xff;

template <typename T>
T read(std::span<const std::byte> from, std::size_t offset) {
  T value;
  std::memcpy(&value, from.data() + offset, sizeof value);
  return value;
}

template <typename T>
void write(BootParameters& to, std::size_t offset, T value) {
  std::memcpy(to.data() + offset, &value, sizeof value);
}

/// VGA text mode 3, as a BIOS leaves it.
void write_text_screen(BootParameters& parameters) {
  write<std::uint8_t>(parameters, kScreenInfo + 0x06, 3);
  write<std::uint8_t>(parameters, kScreenInfo + 0x07, 80);
  write<std::uint8_t>(parameters, kScreenInfo + 0x0e, 25);
  write<std::uint8_t>(parameters, kScreenInfo + 0x0f, 1);
  write<std::uint16_t>(parameters, kScreenInfo + 0x10, 16);
}

void write_framebuffer(BootParameters& parameters, const Framebuffer& framebuffer) {
  constexpr std::uint8_t kLinearFramebuffer = 0x23;
  constexpr std::uint32_t kLongAddress = 1u << 1;
  constexpr std::uint64_t kSizeUnit = 0x10000;
  const std::uint64_t size = std::uint64_t{framebuffer.pitch} * framebuffer.height;
  write(parameters, kScreenInfo + 0x0f, kLinearFramebuffer);
  write(parameters, kScreenInfo + 0x12, framebuffer.width);
  write(parameters, kScreenInfo + 0x14, framebuffer.height);
  write<std::uint16_t>(parameters, kScreenInfo + 0x16, framebuffer.depth);
  write(parameters, kScreenInfo + 0x18, static_cast<std::uint32_t>(framebuffer.address));
  write(parameters, kScreenInfo + 0x1c, static_cast<std::uint32_t>((size + kSizeUnit - 1) / kSizeUnit));
  write(parameters, kScreenInfo + 0x24, static_cast<std::uint16_t>(framebuffer.pitch));
  std::size_t offset = kScreenInfo + 0x26;
  for (const Framebuffer::Channel& channel : framebuffer.colours) {
    write(parameters, offset++, channel.size);
    write(parameters, offset++, channel.position);
  }
  write(parameters, kScreenInfo + 0x36, framebuffer.address >> 32 ? kLongAddress : 0u);
  write(parameters, kScreenInfo + 0x3a, static_cast<std::uint32_t>(framebuffer.address >> 32));
}

}  // namespace

std::expected<LinuxImage, const char*> read_linux_image(std::span<const std::byte> file) {
  if (file.size() < 0x1000) return std::unexpected("the kernel's file is too short for a bzImage");
  if (std::memcmp(file.data() + kSignature, "HdrS", 4) != 0) return std::unexpected("the kernel is no bzImage");
  if (read<std::uint16_t>(file, kVersion) < 0x20a)
    return std::unexpected("the kernel's boot protocol is older than 2.10");
  if (!(read<std::uint8_t>(file, kLoadFlags) & kLoadedHigh))
    return std::unexpected("the kernel is a zImage, not a bzImage");

  const std::size_t sectors = read<std::uint8_t>(file, kSetupSectors);
  LinuxImage image{};
  image.kernel_offset = ((sectors ? sectors : 4) + 1) * 512;
  if (image.kernel_offset >= file.size()) return std::unexpected("the kernel's file ends inside its set-up code");
  image.kernel_size = file.size() - image.kernel_offset;
  image.preferred_address = read<std::uint64_t>(file, kPreferredAddress);
  image.alignment = read<std::uint32_t>(file, kKernelAlignment);
  if (image.alignment == 0 || (image.alignment & (image.alignment - 1))) {
    return std::unexpected("the kernel's alignment is no power of two");
  }
  image.relocatable = read<std::uint8_t>(file, kRelocatable) != 0;
  image.memory_needed = read<std::uint32_t>(file, kInitSize);
  if (image.memory_needed < image.kernel_size) image.memory_needed = static_cast<std::uint32_t>(image.kernel_size);
  image.initial_ramdisk_limit = read<std::uint32_t>(file, kRamdiskLimit);
  image.command_line_limit = read<std::uint32_t>(file, kCommandLineSize);
  return image;
}

void build_boot_parameters(std::span<const std::byte> file, const LinuxPlacement& placement, const MemoryMap& memory,
                           BootParameters& parameters) {
  parameters.fill(std::byte{0});
  std::size_t end = kSignature + read<std::uint8_t>(file, kJumpOffset);
  if (end > kHeaderEnd + 0x28) end = kHeaderEnd + 0x28;  // boot_params has other things behind the header
  std::memcpy(parameters.data() + kSetupSectors, file.data() + kSetupSectors, end - kSetupSectors);

  write<std::uint8_t>(parameters, kTypeOfLoader, kUnknownLoader);
  write(parameters, kCode32Start, static_cast<std::uint32_t>(placement.kernel));
  write(parameters, kRamdiskImage, static_cast<std::uint32_t>(placement.initial_ramdisk));
  write(parameters, kRamdiskSize, placement.initial_ramdisk_size);
  write(parameters, kExtRamdiskImage, static_cast<std::uint32_t>(placement.initial_ramdisk >> 32));
  write(parameters, kCommandLinePointer, placement.command_line);
  write(parameters, kAcpiRsdp, placement.rsdp);

  if (placement.framebuffer.width != 0) {
    write_framebuffer(parameters, placement.framebuffer);
  } else {
    write_text_screen(parameters);
  }

  std::size_t offset = kE820Table;
  for (const MemoryRange& range : memory.ranges()) {
    write(parameters, offset, range.base);
    write(parameters, offset + 8, range.size);
    write(parameters, offset + 16, static_cast<std::uint32_t>(range.type));
    offset += 20;
  }
  write(parameters, kE820Entries, static_cast<std::uint8_t>(memory.ranges().size()));
}

}  // namespace bulkhead::hypervisor::root
