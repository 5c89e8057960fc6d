// SPDX-License-Identifier: Apache-2.0
//
// Where things lie in a guest's physical memory at its start.
//
//   1_0000_0000 ┬ RAM beyond what fits below (worker)
//               ┆
//     fee0_0000 ┼ local APICs
//     fec0_0000 ┼ IOAPIC
//     c000_0000 ┼ end of low RAM, at most
//               │ ... initrd, as high as the kernel allows; Multiboot modules just after the kernel
//               │ kernel: where it wants to be, Linux at 16 MiB as a rule
//       10_0000 ┼
//        f_0000 ┼ SMBIOS                             reserved in the memory map
//        e_0000 ┼ ACPI, the RSDP first               reserved
//        a_0000 ┼ (a PC's video memory)              not in the memory map
//        9_fc00 ┼ extended BIOS data area            reserved
//        2_0000 ┼ command line, Multiboot strings
//          9000 ┼ page tables: PML4, PDPT, 4 page directories map the first 4 GiB to themselves
//          8000 ┼ stack, down from 9000
//          7000 ┼ GDT
//          6000 ┼ boot_params of Linux, or the Multiboot information
//           400 ┼ BIOS data area
//             0 ┴
//
// What is below 9_fc00 is ordinary RAM for the kernel once it has taken over.
#pragma once

#include <cstdint>

namespace bulkhead::firmware {

inline constexpr std::uint64_t kBiosDataArea = 0x400;
inline constexpr std::uint64_t kBootInformation = 0x6000;
inline constexpr std::uint64_t kBootInformationSize = 0x1000;
inline constexpr std::uint64_t kGdt = 0x7000;
inline constexpr std::uint64_t kStackTop = 0x9000;
inline constexpr std::uint64_t kPageTables = 0x9000;
inline constexpr std::uint64_t kCommandLine = 0x2'0000;
inline constexpr std::uint64_t kCommandLineSize = 0x1'0000;
inline constexpr std::uint64_t kExtendedBiosDataArea = 0x9'fc00;
inline constexpr std::uint64_t kVideoMemory = 0xa'0000;
inline constexpr std::uint64_t kAcpiTables = 0xe'0000;
inline constexpr std::uint64_t kAcpiTablesSize = 0x1'0000;
inline constexpr std::uint64_t kSmbios = 0xf'0000;
inline constexpr std::uint64_t kSmbiosSize = 0x1'0000;
inline constexpr std::uint64_t kHighMemory = 0x10'0000;
inline constexpr std::uint64_t kLowMemoryLimit = 0xc000'0000;
inline constexpr std::uint64_t kVmbusWindow = 0xf800'0000;
inline constexpr std::uint64_t kVmbusWindowSize = 0x400'0000;
inline constexpr std::uint64_t kIoApic = 0xfec0'0000;
inline constexpr std::uint64_t kLocalApic = 0xfee0'0000;
inline constexpr std::uint64_t kFourGib = 0x1'0000'0000;

}  // namespace bulkhead::firmware
