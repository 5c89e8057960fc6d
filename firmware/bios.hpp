// SPDX-License-Identifier: Apache-2.0
//
// Starting a kernel through a BIOS instead of entering it directly: for kernels that call the BIOS, as those with only a
// real-mode entry do. The BIOS is SeaBIOS; it finds memory, ACPI tables and the
// kernel in the firmware configuration, and a boot ROM that comes with QEMU puts the kernel in place.
//
//   ffff_ffff ┬ the BIOS, read only; processor 0 begins in its last 16 bytes
//    10_0000 ┼ a copy of its last 128 KiB, as writable as a PC's shadow memory
//     e_0000 ┴
//
// The last 64 KiB of low memory hold the ACPI tables; the RSDP is put where software looks for it by the BIOS.
#pragma once

#include "firmware/firmware.hpp"
#include "vdev/firmware_configuration.hpp"

namespace bulkhead::firmware {

/// The most bytes that a BIOS image may have; its size is a multiple of 64 KiB.
inline constexpr std::uint64_t kBiosSizeMaximum = 1 << 20;

/// Where an image of that size lies. Error: no BIOS has that size.
Result<engine::GuestMemory::Range> bios_range(std::uint64_t size);

/// What the machine's user gives.
struct BiosBoot {
  std::span<const std::uint8_t> bios;
  std::span<const std::uint8_t> boot_rom;
  std::span<const std::uint8_t> kernel;  // a bzImage
  std::span<const std::uint8_t> initrd;  // may be empty
  std::string_view command_line;
};

/// Puts BIOS and tables into the guest's memory, which has the range of `bios_range`, and tells the BIOS the rest through
/// `configuration`, which asks `copy` for the kernel and the initrd while the BIOS runs. Errors: the kernel is no bzImage,
/// is cut short, or does not fit into memory with its initrd; the command line is too long.
Result<> load_bios(engine::GuestMemory& memory, vdev::FirmwareConfiguration& configuration, const BiosBoot& boot,
                   const MachineDescription& machine, const Copy& copy = copy_bytes);

}  // namespace bulkhead::firmware
