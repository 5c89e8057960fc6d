// SPDX-License-Identifier: Apache-2.0
#include "firmware/firmware.hpp"

#include <fmt/format.h>
#include <algorithm>

#include "firmware/acpi.hpp"
#include "firmware/linux_loader.hpp"
#include "firmware/memory_layout.hpp"
#include "firmware/memory_map.hpp"
#include "firmware/multiboot_loader.hpp"
#include "firmware/smbios.hpp"

namespace bulkhead::firmware {
namespace {

// What real-mode software reads of the BIOS data area: where the memory below 640 KiB ends.
Result<> write_bios_data_area(engine::GuestMemory& memory) {
  constexpr std::uint64_t kExtendedAreaSegment = kBiosDataArea + 0x0e;
  constexpr std::uint64_t kBaseMemoryKib = kBiosDataArea + 0x13;
  if (!memory.write(kExtendedAreaSegment, ByteWriter().u16(kExtendedBiosDataArea >> 4).content()) ||
      !memory.write(kBaseMemoryKib, ByteWriter().u16(kExtendedBiosDataArea / 1024).content())) {
    return fail("the machine has no memory for the BIOS data area");
  }
  return {};
}

Result<> write_tables(engine::GuestMemory& memory, const MachineDescription& machine) {
  const Bytes acpi = build_acpi_tables(machine, kAcpiTables);
  const Bytes smbios = build_smbios(machine, kSmbios);
  if (acpi.size() > kAcpiTablesSize) return fail("the machine has too many processors for its ACPI tables");
  if (!memory.write(kAcpiTables, acpi) || !memory.write(kSmbios, smbios)) {
    return fail("the machine has no memory for its ACPI tables");
  }
  return write_bios_data_area(memory);
}

bool begins_with(std::span<const std::uint8_t> bytes, std::initializer_list<std::uint8_t> magic) {
  return bytes.size() >= magic.size() && std::ranges::equal(bytes.first(magic.size()), magic);
}

std::unexpected<Error> not_recognized(std::span<const std::uint8_t> kernel) {
  if (kernel.empty()) return fail("the kernel file is empty");
  if (begins_with(kernel, {0x7f, 'E', 'L', 'F'})) {
    return fail("the kernel is an ELF file without a Multiboot header; of Linux, give the bzImage (vmlinuz)");
  }
  if (begins_with(kernel, {0x1f, 0x8b})) {
    return fail("the kernel is a gzip file; give it uncompressed, or as a bzImage");
  }
  return fail("the kernel is neither a Linux bzImage nor a Multiboot image");
}

}  // namespace

Result<EntryState> load(engine::GuestMemory& memory, std::span<const std::uint8_t> kernel,
                        std::span<const std::uint8_t> initrd, std::string_view command_line,
                        const MachineDescription& machine, const Copy& copy) {
  const bool linux_kernel = is_linux_kernel(kernel);
  if (!linux_kernel && !is_multiboot_kernel(kernel)) return not_recognized(kernel);
  auto map = build_memory_map(memory);
  if (!map) return std::unexpected(map.error());
  if (auto ok = write_tables(memory, machine); !ok) return std::unexpected(ok.error());
  return linux_kernel ? load_linux(memory, *map, kAcpiTables, kernel, initrd, command_line, copy)
                      : load_multiboot(memory, *map, kernel, initrd, command_line, copy);
}

Result<> copy_bytes(std::span<const std::uint8_t> piece, std::span<std::uint8_t> to) {
  std::ranges::copy(piece, to.begin());
  return {};
}

Result<> place(engine::GuestMemory& memory, engine::GuestPhysicalAddress address, std::span<const std::uint8_t> bytes,
               std::string_view what, const Copy& copy) {
  while (!bytes.empty()) {
    const auto to = memory.front_of(address, bytes.size());
    if (!to) return fail(fmt::format("the machine has no memory for {}", what));
    if (auto copied = copy(bytes.first(to->size()), *to); !copied) return copied;
    address += to->size();
    bytes = bytes.subspan(to->size());
  }
  return {};
}

}  // namespace bulkhead::firmware
