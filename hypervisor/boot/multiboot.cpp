// SPDX-License-Identifier: Apache-2.0
//
// Multiboot Specification 0.6.96 section 3.3 and Multiboot2 Specification 2.0 section 3.6, "Boot information format".
#include <algorithm>

#include "hypervisor/boot/boot.hpp"

namespace bulkhead::hypervisor::boot {
namespace {

constexpr std::uint32_t kMagic1 = 0x2badb002;
constexpr std::uint32_t kMagic2 = 0x36d76289;

/// Copies the words of a module's string. False if there are too many.
bool copy_command_line(const char* text, std::size_t limit, std::array<char, kCommandLineSize>& line) {
  const std::size_t length = strnlen(text, limit);
  if (length >= line.size()) return false;
  std::memcpy(line.data(), text, length);
  line[length] = 0;
  return true;
}

/// Multiboot 1 loaders put the file's name in front of the arguments.
const char* after_first_word(const char* text) {
  while (*text && *text != ' ') ++text;
  while (*text == ' ') ++text;
  return text;
}

const char* too_many_ranges = "the memory map has too many ranges";
const char* long_command_line = "the kernel's command line is longer than 2047 characters";
const char* no_kernel = "no kernel: the first module must be a Linux bzImage";

/// An entry of either version's memory map, from its base on. False if there are too many.
bool add_memory(const std::byte* entry, root::MemoryMap& memory) {
  return memory.add(
      {read<std::uint64_t>(entry), read<std::uint64_t>(entry + 8), root::MemoryType{read<std::uint32_t>(entry + 16)}});
}

const char* read_multiboot1(const std::byte* info, Information& information) {
  const auto flags = read<std::uint32_t>(info);
  if (!(flags & (1u << 6))) return "the loader gives no memory map";
  if (!(flags & (1u << 3)) || read<std::uint32_t>(info + 20) == 0) return no_kernel;

  const std::byte* entry = at(read<std::uint32_t>(info + 48));
  const std::byte* end = entry + read<std::uint32_t>(info + 44);
  while (entry < end) {
    if (!add_memory(entry + 4, information.memory)) return too_many_ranges;
    entry += read<std::uint32_t>(entry) + 4;
  }

  const auto count = read<std::uint32_t>(info + 20);
  const std::byte* modules = at(read<std::uint32_t>(info + 24));
  information.kernel = {read<std::uint32_t>(modules), read<std::uint32_t>(modules + 4)};
  const char* text = reinterpret_cast<const char*>(at(read<std::uint32_t>(modules + 8)));
  if (!copy_command_line(after_first_word(text), kCommandLineSize, information.kernel_command_line)) {
    return long_command_line;
  }
  if (count > 1) information.initial_ramdisk = {read<std::uint32_t>(modules + 16), read<std::uint32_t>(modules + 20)};
  return nullptr;
}

const char* read_memory_map2(const std::byte* tag, std::uint32_t size, Information& information) {
  const auto entry_size = read<std::uint32_t>(tag + 8);
  if (entry_size < 24) return "the loader's memory map has a wrong entry size";
  for (std::uint32_t offset = 16; offset + entry_size <= size; offset += entry_size) {
    if (!add_memory(tag + offset, information.memory)) return too_many_ranges;
  }
  return nullptr;
}

/// A copy, because nobody keeps the loader's memory.
void read_rsdp2(const std::byte* tag, std::uint32_t size, Information& information) {
  std::memcpy(information.rsdp_copy.data(), tag + 8, std::min<std::size_t>(size - 8, kRsdpSize));
  information.rsdp =
      reinterpret_cast<std::uint64_t>(information.rsdp_copy.data()) - BULKHEAD_IMAGE_BASE + BULKHEAD_LOAD_BASE;
}

void read_framebuffer2(const std::byte* tag, std::uint32_t size, Information& information) {
  constexpr std::uint8_t kDirectColour = 1;
  constexpr std::uint32_t kDirectColourSize = 38;
  if (size < kDirectColourSize || read<std::uint8_t>(tag + 29) != kDirectColour) return;
  root::Framebuffer& framebuffer = information.framebuffer;
  framebuffer.address = read<std::uint64_t>(tag + 8);
  framebuffer.pitch = read<std::uint32_t>(tag + 16);
  framebuffer.width = static_cast<std::uint16_t>(read<std::uint32_t>(tag + 20));
  framebuffer.height = static_cast<std::uint16_t>(read<std::uint32_t>(tag + 24));
  framebuffer.depth = read<std::uint8_t>(tag + 28);
  const std::byte* channel = tag + 32;
  for (root::Framebuffer::Channel& colour : framebuffer.colours) {
    colour = {read<std::uint8_t>(channel), read<std::uint8_t>(channel + 1)};
    channel += 2;
  }
}

const char* read_multiboot2(const std::byte* info, Information& information) {
  enum Tag : std::uint32_t {
    End = 0,
    Module = 3,
    MemoryMap = 6,
    Framebuffer = 8,
    Efi64 = 12,
    AcpiOld = 14,
    AcpiNew = 15
  };
  const auto total = read<std::uint32_t>(info);
  unsigned modules = 0;
  for (std::uint32_t offset = 8; offset + 8 <= total;) {
    const std::byte* tag = info + offset;
    const auto type = read<std::uint32_t>(tag);
    const auto size = read<std::uint32_t>(tag + 4);
    if (type == Tag::End || size < 8) break;
    if (type == Tag::Module && modules < 2) {
      const boot::Module module{read<std::uint32_t>(tag + 8), read<std::uint32_t>(tag + 12)};
      (modules++ == 0 ? information.kernel : information.initial_ramdisk) = module;
      const char* text = reinterpret_cast<const char*>(tag + 16);
      if (modules == 1 && !copy_command_line(text, size - 16, information.kernel_command_line))
        return long_command_line;
    } else if (type == Tag::MemoryMap) {
      if (const char* error = read_memory_map2(tag, size, information)) return error;
    } else if (type == Tag::AcpiNew || (type == Tag::AcpiOld && information.rsdp == 0)) {
      read_rsdp2(tag, size, information);
    } else if (type == Tag::Framebuffer) {
      read_framebuffer2(tag, size, information);
    } else if (type == Tag::Efi64) {
      information.efi = true;
    }
    offset += (size + 7) & ~7u;
  }
  if (information.memory.ranges().empty()) return "the loader gives no memory map";
  return modules == 0 ? no_kernel : nullptr;
}

}  // namespace

const char* read_information(std::uint32_t magic, std::uint64_t address, Information& information) {
  if (magic == kMagic1) return read_multiboot1(at(address), information);
  if (magic == kMagic2) return read_multiboot2(at(address), information);
  return "not started by a multiboot loader";
}

}  // namespace bulkhead::hypervisor::boot
