// SPDX-License-Identifier: Apache-2.0
#include "firmware/linux_loader.hpp"

#include <fmt/format.h>
#include <algorithm>

#include "firmware/byte_writer.hpp"
#include "firmware/entry_state.hpp"
#include "firmware/linux_setup_header.hpp"
#include "firmware/memory_layout.hpp"

namespace bulkhead::firmware {
namespace {

// Offsets in the kernel file, and in boot_params, where the setup header has the same place.
constexpr std::size_t kSetupHeader = 0x1f1;
constexpr std::size_t kSystemSize = 0x1f4;  // in units of 16 bytes
constexpr std::size_t kBootFlag = 0x1fe;
constexpr std::size_t kJumpLength = 0x201;
constexpr std::size_t kSignature = 0x202;
constexpr std::size_t kCode32Start = 0x214;
constexpr std::size_t kRelocatable = 0x234;
constexpr std::size_t kXLoadFlags = 0x236;
constexpr std::size_t kPreferredAddress = 0x258;
constexpr std::size_t kInitSize = 0x260;
// In boot_params alone.
constexpr std::size_t kRsdpAddress = 0x070;
constexpr std::size_t kE820Count = 0x1e8;
constexpr std::size_t kE820Table = 0x2d0;
constexpr std::size_t kE820EntrySize = 20;
constexpr std::size_t kE820Maximum = 128;

constexpr std::uint64_t kBootFlagValue = 0xaa55;
constexpr std::uint64_t kSignatureValue = 0x5372'6448;  // "HdrS"
constexpr unsigned kOldestVersion = 0x206;
constexpr unsigned kVersionWithInitSize = 0x20a;
constexpr unsigned kVersionWithXLoadFlags = 0x20c;
constexpr std::uint16_t kKernel64 = 1 << 0;
constexpr std::uint64_t k64BitEntryOffset = 0x200;
constexpr std::uint64_t kMib = 1 << 20;
constexpr std::uint64_t kPageMask = 0xfff;

/// What the kernel's header says, checked.
struct Header {
  std::span<const std::uint8_t> file;
  std::span<const std::uint8_t> image;  // the part that runs in protected mode
  unsigned version;
  bool has_64_bit_entry;
  std::uint64_t load_address;
  std::uint64_t memory_size;  // that the kernel uses from there on before it looks at the memory map
  std::uint64_t initrd_maximum;
  std::uint64_t command_line_maximum;
};

Result<Header> read_header(std::span<const std::uint8_t> file) {
  if (file.size() < kSmallestFile) return fail("the Linux kernel is cut short: its header is not complete");
  Header header{};
  header.file = file;
  header.version = static_cast<unsigned>(get(file, kVersion, 2));
  if (header.version < kOldestVersion) {
    return fail(fmt::format("the Linux kernel is too old: its boot protocol is {}.{:02}, at least 2.06 is needed",
                            header.version >> 8, header.version & 0xff));
  }
  if (!(file[kLoadFlags] & kLoadedHigh)) return fail("the Linux kernel is a zImage; only a bzImage can be loaded");

  const std::size_t setup = setup_size(file[kSetupSectors]);
  const std::uint64_t image_size = get(file, kSystemSize, 4) * 16;
  // The size is rounded up to 16 bytes. What comes after the image (signatures) stays behind.
  if (file.size() <= setup || file.size() - setup + 15 < image_size || image_size == 0) {
    return fail(fmt::format("the Linux kernel is cut short: it has {} bytes of the {} that its header names",
                            file.size(), setup + image_size));
  }
  header.image = file.subspan(setup, std::min<std::uint64_t>(image_size, file.size() - setup));

  const bool relocatable = file[kRelocatable] != 0;
  const bool has_init_size = header.version >= kVersionWithInitSize;
  header.load_address = has_init_size ? get(file, kPreferredAddress, 8) : kHighMemory;
  header.memory_size = std::max<std::uint64_t>(has_init_size ? get(file, kInitSize, 4) : 0, header.image.size());
  if (header.load_address < kHighMemory || header.load_address >= kFourGib || (header.load_address & kPageMask)) {
    return fail(fmt::format("the Linux kernel wants to be loaded at {:#x}{}, where no kernel can be",
                            header.load_address, relocatable ? "" : " and nowhere else"));
  }
  header.has_64_bit_entry = header.version >= kVersionWithXLoadFlags && (get(file, kXLoadFlags, 2) & kKernel64);
  if (!header.has_64_bit_entry && get(file, kCode32Start, 4) == 0) {
    return fail("the kernel can be entered in real mode only: it needs a BIOS (--firmware bios)");
  }
  header.initrd_maximum = get(file, kInitrdAddressMaximum, 4);
  header.command_line_maximum = get(file, kCommandLineMaximum, 4);
  return header;
}

/// Where the initrd goes: as high as kernel and memory allow.
Result<std::uint64_t> place_initrd(const Header& header, const MemoryMap& map, std::uint64_t size) {
  const std::uint64_t end = std::min(header.initrd_maximum + 1, map.low_end);
  const std::uint64_t kernel_end = header.load_address + header.memory_size;
  if (end < size || ((end - size) & ~kPageMask) < kernel_end) {
    const std::uint64_t room = end > kernel_end ? end - kernel_end : 0;
    return fail(fmt::format("the initrd is too large: it has {} MiB, and {} MiB are left beside the kernel",
                            (size + kMib - 1) / kMib, room / kMib));
  }
  return (end - size) & ~kPageMask;
}

/// The zero page: the kernel's own setup header, completed.
Result<Bytes> build_boot_parameters(const Header& header, const MemoryMap& map, std::uint64_t rsdp) {
  Bytes parameters(kBootInformationSize);
  const std::size_t header_end = kSignature + header.file[kJumpLength];
  const std::size_t header_size = std::min(header_end, header.file.size()) - kSetupHeader;
  std::ranges::copy(header.file.subspan(kSetupHeader, header_size), parameters.begin() + kSetupHeader);
  put(parameters, kTypeOfLoader, kUndefinedLoader, 1);
  put(parameters, kCode32Start, header.load_address, 4);
  put(parameters, kCommandLinePointer, kCommandLine, 4);
  put(parameters, kRamdiskImage, 0, 4);
  put(parameters, kRamdiskSize, 0, 4);
  put(parameters, kRsdpAddress, rsdp, 8);
  if (map.ranges.size() > kE820Maximum) return fail("the machine's memory is in more pieces than Linux can be told of");
  put(parameters, kE820Count, map.ranges.size(), 1);
  std::size_t offset = kE820Table;
  for (const AddressRange& range : map.ranges) {
    put(parameters, offset, range.base, 8);
    put(parameters, offset + 8, range.size, 8);
    put(parameters, offset + 16, static_cast<std::uint64_t>(range.type), 4);
    offset += kE820EntrySize;
  }
  return parameters;
}

Result<> write_command_line(engine::GuestMemory& memory, const Header& header, std::string_view command_line) {
  const std::uint64_t maximum = std::min(header.command_line_maximum, kCommandLineSize - 1);
  if (command_line.size() > maximum) {
    return fail(fmt::format("the command line is too long: it has {} characters, the kernel takes {}",
                            command_line.size(), maximum));
  }
  if (!memory.write(kCommandLine, ByteWriter().text(command_line).u8(0).content())) {
    return fail("the machine has no memory for the command line");
  }
  return {};
}

}  // namespace

bool is_linux_kernel(std::span<const std::uint8_t> kernel) {
  return kernel.size() >= kVersion + 2 && get(kernel, kBootFlag, 2) == kBootFlagValue &&
         get(kernel, kSignature, 4) == kSignatureValue;
}

Result<EntryState> load_linux(engine::GuestMemory& memory, const MemoryMap& map, std::uint64_t rsdp,
                              std::span<const std::uint8_t> kernel, std::span<const std::uint8_t> initrd,
                              std::string_view command_line, const Copy& copy) {
  auto header = read_header(kernel);
  if (!header) return std::unexpected(header.error());
  const std::uint64_t kernel_end = header->load_address + header->memory_size;
  if (kernel_end > map.low_end) {
    return fail(fmt::format("the kernel needs more memory: at least {} MiB, the machine has {} MiB",
                            (kernel_end + kMib - 1) / kMib, map.low_end / kMib));
  }
  if (auto placed = place(memory, header->load_address, header->image, "the kernel", copy); !placed) {
    return std::unexpected(placed.error());
  }
  auto parameters = build_boot_parameters(*header, map, rsdp);
  if (!parameters) return std::unexpected(parameters.error());
  if (!initrd.empty()) {
    auto address = place_initrd(*header, map, initrd.size());
    if (!address) return std::unexpected(address.error());
    if (auto placed = place(memory, *address, initrd, "the initrd", copy); !placed) {
      return std::unexpected(placed.error());
    }
    put(*parameters, kRamdiskImage, *address, 4);
    put(*parameters, kRamdiskSize, initrd.size(), 4);
  }
  if (auto ok = write_command_line(memory, *header, command_line); !ok) return std::unexpected(ok.error());
  if (!memory.write(kBootInformation, *parameters)) return fail("the machine has no memory for boot_params");
  EntryRegisters registers{.rip = header->load_address, .rsi = kBootInformation};
  if (!header->has_64_bit_entry) return enter_32_bit(memory, registers);
  registers.rip += k64BitEntryOffset;
  return enter_64_bit(memory, registers);
}

}  // namespace bulkhead::firmware
