// SPDX-License-Identifier: Apache-2.0
#include "firmware/elf32.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <algorithm>
#include <vector>

#include "firmware/byte_writer.hpp"

namespace bulkhead::firmware {
namespace {

std::unexpected<Error> cut_short(std::string_view what) {
  return fail(fmt::format("the ELF kernel is cut short: {} lies behind the end of the file", what));
}

}  // namespace

Result<LoadedImage> load_segments(engine::GuestMemory& memory, std::span<const ImageSegment> segments,
                                  std::uint64_t entry, const Copy& copy) {
  LoadedImage image{UINT64_MAX, 0, entry};
  for (const ImageSegment& segment : segments) {
    const auto room = memory.at(segment.address, segment.size);
    if (!room) {
      return fail(
          fmt::format("the kernel does not fit into the machine's memory: it has a part at {:#x} of {:#x} bytes",
                      segment.address, segment.size));
    }
    const std::size_t size = segment.content.size();
    if (auto copied = copy(segment.content, room->first(size)); !copied) return std::unexpected(copied.error());
    std::ranges::fill(room->subspan(size), std::uint8_t{0});
    image.begin = std::min(image.begin, segment.address);
    image.end = std::max(image.end, segment.address + segment.size);
  }
  return image;
}

Result<LoadedImage> load_elf32(engine::GuestMemory& memory, std::span<const std::uint8_t> file, const Copy& copy) {
  if (file.size() < sizeof(Elf32_Ehdr) || !std::ranges::equal(file.first(SELFMAG), std::string_view(ELFMAG), {}, {},
                                                              [](char c) { return static_cast<std::uint8_t>(c); })) {
    return fail("the Multiboot kernel is no ELF image, and its header gives no addresses");
  }
  if (file[EI_CLASS] != ELFCLASS32 || file[EI_DATA] != ELFDATA2LSB ||
      get(file, offsetof(Elf32_Ehdr, e_machine), 2) != EM_386) {
    return fail("the Multiboot kernel is no 32-bit x86 ELF image, and its header gives no addresses");
  }
  const std::uint64_t table = get(file, offsetof(Elf32_Ehdr, e_phoff), 4);
  const std::uint64_t entry_size = get(file, offsetof(Elf32_Ehdr, e_phentsize), 2);
  const std::uint64_t count = get(file, offsetof(Elf32_Ehdr, e_phnum), 2);
  if (entry_size < sizeof(Elf32_Phdr)) return fail("the ELF kernel has program headers of an unknown form");
  if (table + count * entry_size > file.size()) return cut_short("the table of program headers");

  std::vector<ImageSegment> segments;
  const std::uint64_t virtual_entry = get(file, offsetof(Elf32_Ehdr, e_entry), 4);
  std::uint64_t entry = virtual_entry;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto header = file.subspan(table + i * entry_size, sizeof(Elf32_Phdr));
    const std::uint64_t file_size = get(header, offsetof(Elf32_Phdr, p_filesz), 4);
    const std::uint64_t memory_size = get(header, offsetof(Elf32_Phdr, p_memsz), 4);
    if (get(header, offsetof(Elf32_Phdr, p_type), 4) != PT_LOAD || memory_size == 0) continue;
    const std::uint64_t offset = get(header, offsetof(Elf32_Phdr, p_offset), 4);
    if (offset > file.size() || file_size > file.size() - offset) return cut_short("a segment");
    if (file_size > memory_size) return fail("the ELF kernel has a segment with more bytes in the file than in memory");
    const std::uint64_t physical = get(header, offsetof(Elf32_Phdr, p_paddr), 4);
    const std::uint64_t linear = get(header, offsetof(Elf32_Phdr, p_vaddr), 4);
    if (virtual_entry >= linear && virtual_entry - linear < memory_size) entry = virtual_entry - linear + physical;
    segments.push_back({physical, file.subspan(offset, file_size), memory_size});
  }
  if (segments.empty()) return fail("the ELF kernel has nothing to load");
  return load_segments(memory, segments, entry, copy);
}

}  // namespace bulkhead::firmware
