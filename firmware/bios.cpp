// SPDX-License-Identifier: Apache-2.0
#include "firmware/bios.hpp"

#include <fmt/format.h>
#include <algorithm>

#include "firmware/acpi.hpp"
#include "firmware/linux_loader.hpp"
#include "firmware/linux_setup_header.hpp"
#include "firmware/memory_layout.hpp"
#include "firmware/memory_map.hpp"

namespace bulkhead::firmware {
namespace {

using vdev::FirmwareConfiguration;
using Item = FirmwareConfiguration::Item;

constexpr std::uint64_t kSizeUnit = 0x1'0000;
constexpr std::uint64_t kShadowSize = 0x2'0000;

// Where the boot ROM puts the kernel: Linux, Documentation/arch/x86/boot.rst, "Loading The Rest of The Kernel".
constexpr std::uint64_t kSetupAddress = 0x1'0000;
constexpr std::uint64_t kSectorSize = 512;
constexpr std::size_t kHeapEnd = 0x224;
constexpr unsigned kOldestVersion = 0x202;
constexpr unsigned kVersionWithInitrdMaximum = 0x203;
constexpr std::uint64_t kUsualInitrdMaximum = 0x37ff'ffff;
constexpr unsigned kVersionWithCommandLineMaximum = 0x206;
constexpr std::uint64_t kUsualCommandLineMaximum = 255;
constexpr std::uint8_t kCanUseHeap = 1 << 7;

/// What the BIOS takes for itself at the end of low memory; it takes 256 KiB.
constexpr std::uint64_t kBiosMemory = 1 << 20;
constexpr std::uint64_t kPageMask = 0xfff;

constexpr std::size_t kRsdpSize = 36;

/// The kernel's setup sectors, completed as a loader does.
Result<Bytes> complete_setup(const BiosBoot& boot) {
  if (!is_linux_kernel(boot.kernel)) return fail("a BIOS can start only a Linux bzImage, which the kernel is not");
  if (boot.kernel.size() < kSmallestFile) return fail("the kernel is cut short: its header is not complete");
  const auto version = static_cast<unsigned>(get(boot.kernel, kVersion, 2));
  if (version < kOldestVersion || !(boot.kernel[kLoadFlags] & kLoadedHigh)) {
    return fail("the kernel is a zImage or too old; a bzImage of boot protocol 2.02 or later is needed");
  }
  const std::size_t size = setup_size(boot.kernel[kSetupSectors]);
  if (boot.kernel.size() <= size) return fail("the kernel is cut short: it ends with its setup code");
  const std::uint64_t named =
      version >= kVersionWithCommandLineMaximum ? get(boot.kernel, kCommandLineMaximum, 4) : kUsualCommandLineMaximum;
  const std::uint64_t maximum = std::min(named, kCommandLineSize - 1);
  if (boot.command_line.size() > maximum) {
    return fail(fmt::format("the command line is too long: it has {} characters, the kernel takes {}",
                            boot.command_line.size(), maximum));
  }
  Bytes setup(boot.kernel.begin(), boot.kernel.begin() + static_cast<std::ptrdiff_t>(size));
  put(setup, kTypeOfLoader, kUndefinedLoader, 1);
  setup[kLoadFlags] |= kCanUseHeap;
  put(setup, kHeapEnd, kCommandLine - kSetupAddress - kSectorSize, 2);
  put(setup, kCommandLinePointer, kCommandLine, 4);
  return setup;
}

/// As high as the kernel and the BIOS allow. `end` is where the memory ends that the kernel may use.
Result<std::uint64_t> place_initrd(const BiosBoot& boot, std::uint64_t end) {
  const bool named = get(boot.kernel, kVersion, 2) >= kVersionWithInitrdMaximum;
  const std::uint64_t maximum = named ? get(boot.kernel, kInitrdAddressMaximum, 4) : kUsualInitrdMaximum;
  const std::uint64_t top = std::min(maximum + 1, end - std::min(end, kBiosMemory));
  const std::uint64_t size = boot.initrd.size();
  if (top < size || ((top - size) & ~kPageMask) < kHighMemory + boot.kernel.size()) {
    return fail(fmt::format("the kernel and its initrd need more memory than the machine has: {} MiB",
                            (end + kAcpiTablesSize) / kHighMemory));
  }
  return (top - size) & ~kPageMask;
}

/// The BIOS reads the map as entries of base, size and type without padding.
Bytes memory_map_file(const MemoryMap& map, std::uint64_t tables) {
  ByteWriter file;
  const auto add = [&](std::uint64_t base, std::uint64_t size, AddressRangeType type) {
    file.u64(base).u64(size).u32(static_cast<std::uint32_t>(type));
  };
  add(0, tables, AddressRangeType::Memory);
  add(tables, map.low_end - tables, AddressRangeType::Reserved);
  for (const auto& range : map.ranges) {
    if (range.base >= map.low_end && range.type == AddressRangeType::Memory) add(range.base, range.size, range.type);
  }
  return file.content();
}

/// Commands for the BIOS: find a place for the RSDP among what software searches. A command has 128 bytes.
Bytes table_commands(std::string_view rsdp_file) {
  constexpr std::uint32_t kAllocate = 1;
  constexpr std::uint32_t kRsdpAlignment = 16;
  constexpr std::uint8_t kSearchedZone = 2;
  constexpr std::size_t kCommandSize = 128;
  ByteWriter commands;
  commands.u32(kAllocate).text(rsdp_file).zeros(FirmwareConfiguration::kFileNameSize - rsdp_file.size());
  commands.u32(kRsdpAlignment).u8(kSearchedZone).align(kCommandSize);
  return commands.content();
}

FirmwareConfiguration::Source source_of(std::span<const std::uint8_t> bytes, const Copy& copy) {
  return {.size = bytes.size(), .read = [bytes, copy](std::uint64_t offset, std::span<std::uint8_t> to) {
            return copy(bytes.subspan(offset, to.size()), to).has_value();
          }};
}

void describe_kernel(FirmwareConfiguration& configuration, const BiosBoot& boot, Bytes setup, const Copy& copy) {
  const auto rest = boot.kernel.subspan(setup.size());
  configuration.set_number(Item::KernelAddress, kHighMemory, 4);
  configuration.set_number(Item::KernelSize, rest.size(), 4);
  configuration.set_source(Item::KernelData, source_of(rest, copy));
  configuration.set_number(Item::SetupAddress, kSetupAddress, 4);
  configuration.set_number(Item::SetupSize, setup.size(), 4);
  configuration.set(Item::SetupData, std::move(setup));
  configuration.set_number(Item::InitrdSize, boot.initrd.size(), 4);
  configuration.set_source(Item::InitrdData, source_of(boot.initrd, copy));
  const Bytes command_line = ByteWriter().text(boot.command_line).u8(0).content();
  configuration.set_number(Item::CommandLineAddress, kCommandLine, 4);
  configuration.set_number(Item::CommandLineSize, command_line.size(), 4);
  configuration.set(Item::CommandLineData, command_line);
}

}  // namespace

Result<engine::GuestMemory::Range> bios_range(std::uint64_t size) {
  if (size < kShadowSize || size > kBiosSizeMaximum || size % kSizeUnit != 0) {
    return fail(fmt::format("it has {} bytes, and a BIOS has 128 KiB to 1 MiB in multiples of 64 KiB", size));
  }
  return engine::GuestMemory::Range{.base = kFourGib - size, .size = size, .at_start = true, .writable = false};
}

Result<> load_bios(engine::GuestMemory& memory, vdev::FirmwareConfiguration& configuration, const BiosBoot& boot,
                   const MachineDescription& machine, const Copy& copy) {
  auto setup = complete_setup(boot);
  if (!setup) return std::unexpected(setup.error());
  auto map = build_memory_map(memory);
  if (!map) return std::unexpected(map.error());
  const std::uint64_t tables = map->low_end - kAcpiTablesSize;
  const auto initrd = place_initrd(boot, tables);
  if (!initrd) return std::unexpected(initrd.error());
  if (!boot.initrd.empty()) {
    put(*setup, kRamdiskImage, *initrd, 4);
    put(*setup, kRamdiskSize, boot.initrd.size(), 4);
    configuration.set_number(Item::InitrdAddress, *initrd, 4);
  }
  const Bytes acpi = build_acpi_tables(machine, tables);
  if (acpi.size() > kAcpiTablesSize) return fail("the machine has too many processors for its ACPI tables");
  if (!memory.write(kFourGib - boot.bios.size(), boot.bios) ||
      !memory.write(kHighMemory - kShadowSize, boot.bios.last(kShadowSize)) || !memory.write(tables, acpi)) {
    return fail("the machine has no memory for its BIOS");
  }
  constexpr std::string_view kRsdpFile = "etc/acpi/rsdp";
  configuration.set_number(Item::NoGraphics, 1, 2);
  configuration.set_number(Item::PresentProcessors, machine.vp_count, 2);
  configuration.set_number(Item::MaximumProcessors, machine.vp_count, 2);
  configuration.set_file("etc/e820", memory_map_file(*map, tables));
  configuration.set_file(kRsdpFile, Bytes(acpi.begin(), acpi.begin() + kRsdpSize));
  configuration.set_file("etc/table-loader", table_commands(kRsdpFile));
  configuration.set_file("genroms/linuxboot_dma.bin", Bytes(boot.boot_rom.begin(), boot.boot_rom.end()));
  describe_kernel(configuration, boot, std::move(*setup), copy);
  return {};
}

}  // namespace bulkhead::firmware
