// SPDX-License-Identifier: Apache-2.0
#include "firmware/multiboot_loader.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <optional>

#include "firmware/byte_writer.hpp"
#include "firmware/elf32.hpp"
#include "firmware/entry_state.hpp"
#include "firmware/memory_layout.hpp"

namespace bulkhead::firmware {
namespace {

constexpr std::size_t kSearchedSize = 8192;
constexpr std::uint32_t kHeaderMagic = 0x1bad'b002;
constexpr std::uint32_t kLoaderMagic = 0x2bad'b002;
// Header flags. Bits 0 to 15 name what the kernel cannot do without.
constexpr std::uint32_t kWantsPageAlignedModules = 1 << 0;
constexpr std::uint32_t kWantsMemoryInformation = 1 << 1;
constexpr std::uint32_t kRequirements = 0xffff;
constexpr std::uint32_t kKnownRequirements = kWantsPageAlignedModules | kWantsMemoryInformation;
constexpr std::uint32_t kHasAddresses = 1 << 16;
// Information flags.
constexpr std::uint32_t kMemorySizes = 1 << 0;
constexpr std::uint32_t kHasCommandLine = 1 << 2;
constexpr std::uint32_t kHasModules = 1 << 3;
constexpr std::uint32_t kHasMemoryMap = 1 << 6;
constexpr std::uint32_t kHasLoaderName = 1 << 9;

constexpr std::size_t kInformationSize = 116;
constexpr std::size_t kModuleEntrySize = 16;
constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kMib = 1 << 20;

struct Header {
  std::size_t offset;  // in the file
  std::uint32_t flags;
};

std::optional<Header> find_header(std::span<const std::uint8_t> kernel) {
  const std::size_t end = std::min(kernel.size(), kSearchedSize);
  for (std::size_t offset = 0; offset + 12 <= end; offset += 4) {
    if (get(kernel, offset, 4) != kHeaderMagic) continue;
    const auto flags = static_cast<std::uint32_t>(get(kernel, offset + 4, 4));
    const auto sum = static_cast<std::uint32_t>(kHeaderMagic + flags + get(kernel, offset + 8, 4));
    if (sum == 0) return Header{offset, flags};
  }
  return std::nullopt;
}

/// The kernel by the addresses in its header: one stretch of the file, and zeros after it.
Result<LoadedImage> load_by_addresses(engine::GuestMemory& memory, std::span<const std::uint8_t> kernel,
                                      const Header& header, const Copy& copy) {
  if (header.offset + 32 > kernel.size()) return fail("the Multiboot kernel is cut short: its header is not complete");
  const std::uint64_t header_address = get(kernel, header.offset + 12, 4);
  const std::uint64_t load_address = get(kernel, header.offset + 16, 4);
  std::uint64_t load_end = get(kernel, header.offset + 20, 4);
  std::uint64_t zero_end = get(kernel, header.offset + 24, 4);
  const std::uint64_t entry = get(kernel, header.offset + 28, 4);
  if (load_address > header_address || header_address - load_address > header.offset) {
    return fail("the Multiboot kernel's header gives addresses that lie before its file");
  }
  const std::size_t file_offset = header.offset - (header_address - load_address);
  if (load_end == 0) load_end = load_address + (kernel.size() - file_offset);  // the whole file
  if (load_end < load_address || load_end - load_address > kernel.size() - file_offset) {
    return fail("the Multiboot kernel is cut short: its header names more bytes than the file has");
  }
  zero_end = std::max(zero_end, load_end);
  const ImageSegment segment{load_address, kernel.subspan(file_offset, load_end - load_address),
                             zero_end - load_address};
  return load_segments(memory, std::span(&segment, 1), entry, copy);
}

/// Builds the information and the strings that it points to; they lie from `kBootInformation` and `kCommandLine` on.
class Information {
 public:
  explicit Information(const MemoryMap& map) : bytes_(kInformationSize) {
    put(bytes_, 4, kExtendedBiosDataArea / 1024, 4);
    put(bytes_, 8, (map.low_end - kHighMemory) / 1024, 4);
    add_flag(kMemorySizes);
    add_memory_map(map);
  }

  void command_line(std::string_view text) {
    put(bytes_, 16, add_string(text), 4);
    add_flag(kHasCommandLine);
  }
  void loader_name(std::string_view text) {
    put(bytes_, 64, add_string(text), 4);
    add_flag(kHasLoaderName);
  }
  void module(std::uint64_t begin, std::uint64_t end, std::string_view text) {
    put(bytes_, 20, 1, 4);
    put(bytes_, 24, kBootInformation + bytes_.size(), 4);
    add_flag(kHasModules);
    bytes_.resize(bytes_.size() + kModuleEntrySize);
    const std::size_t entry = bytes_.size() - kModuleEntrySize;
    put(bytes_, entry, begin, 4);
    put(bytes_, entry + 4, end, 4);
    put(bytes_, entry + 8, add_string(text), 4);
  }

  Result<> write(engine::GuestMemory& memory) const {
    if (bytes_.size() > kBootInformationSize || strings_.size() > kCommandLineSize) {
      return fail("the command line or the memory map is too long for the Multiboot information");
    }
    if (!memory.write(kBootInformation, bytes_) || !memory.write(kCommandLine, strings_.content())) {
      return fail("the machine has no memory for the Multiboot information");
    }
    return {};
  }

 private:
  void add_flag(std::uint32_t flag) { put(bytes_, 0, get(bytes_, 0, 4) | flag, 4); }

  std::uint64_t add_string(std::string_view text) {
    const std::uint64_t address = kCommandLine + strings_.size();
    strings_.text(text).u8(0);
    return address;
  }

  void add_memory_map(const MemoryMap& map) {
    ByteWriter entries;
    for (const AddressRange& range : map.ranges) {
      entries.u32(20).u64(range.base).u64(range.size).u32(static_cast<std::uint32_t>(range.type));
    }
    put(bytes_, 44, entries.size(), 4);
    put(bytes_, 48, kBootInformation + bytes_.size(), 4);
    bytes_.insert(bytes_.end(), entries.content().begin(), entries.content().end());
    add_flag(kHasMemoryMap);
  }

  Bytes bytes_;
  ByteWriter strings_;
};

bool overlaps(const LoadedImage& image, std::uint64_t begin, std::uint64_t end) {
  return image.begin < end && begin < image.end;
}

Result<std::uint64_t> place_module(const LoadedImage& image, const MemoryMap& map, std::uint64_t size) {
  const std::uint64_t address = std::max((image.end + kPage - 1) & ~(kPage - 1), kHighMemory);
  if (address >= map.low_end || size > map.low_end - address) {
    return fail(fmt::format("the initrd is too large: it has {} MiB, and {} MiB are left behind the kernel",
                            (size + kMib - 1) / kMib, address < map.low_end ? (map.low_end - address) / kMib : 0));
  }
  return address;
}

}  // namespace

bool is_multiboot_kernel(std::span<const std::uint8_t> kernel) { return find_header(kernel).has_value(); }

Result<EntryState> load_multiboot(engine::GuestMemory& memory, const MemoryMap& map,
                                  std::span<const std::uint8_t> kernel, std::span<const std::uint8_t> module,
                                  std::string_view command_line, const Copy& copy) {
  const auto header = find_header(kernel);
  if (!header) return fail("the kernel has no Multiboot header");
  if (const std::uint32_t unknown = header->flags & kRequirements & ~kKnownRequirements) {
    return fail(fmt::format("the Multiboot kernel requires what this machine has not: header flags {:#x}{}", unknown,
                            unknown & 4 ? ", a video mode" : ""));
  }
  auto image = header->flags & kHasAddresses ? load_by_addresses(memory, kernel, *header, copy)
                                             : load_elf32(memory, kernel, copy);
  if (!image) return std::unexpected(image.error());
  if (image->end > map.low_end || overlaps(*image, 0, kCommandLine + kCommandLineSize) ||
      overlaps(*image, kExtendedBiosDataArea, kHighMemory)) {
    return fail(fmt::format(
        "the Multiboot kernel lies at {:#x} to {:#x}; it must be in the memory from {:#x} to {:#x}, or"
        " {:#x} to {:#x}",
        image->begin, image->end, kCommandLine + kCommandLineSize, kExtendedBiosDataArea, kHighMemory, map.low_end));
  }

  Information information(map);
  information.command_line(command_line);
  information.loader_name("Bulkhead");
  if (!module.empty()) {
    auto address = place_module(*image, map, module.size());
    if (!address) return std::unexpected(address.error());
    if (auto placed = place(memory, *address, module, "the initrd", copy); !placed) {
      return std::unexpected(placed.error());
    }
    information.module(*address, *address + module.size(), "initrd");
  }
  if (auto ok = information.write(memory); !ok) return std::unexpected(ok.error());
  return enter_32_bit(memory, {.rip = image->entry, .rax = kLoaderMagic, .rbx = kBootInformation});
}

}  // namespace bulkhead::firmware
