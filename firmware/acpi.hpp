// SPDX-License-Identifier: Apache-2.0
//
// The ACPI tables (ACPI 6.5, section 5) of a machine:
//
//   RSDP ──▶ XSDT ──┬──▶ FADT ──┬──▶ FACS
//                   │           └──▶ DSDT   devices, and what power-off writes
//                   └──▶ MADT               processors, IOAPIC and the wiring of interrupts
#pragma once

#include "firmware/byte_writer.hpp"
#include "firmware/firmware.hpp"

namespace bulkhead::firmware {

/// The tables as they lie in memory from `base` on, which is a multiple of 64; the RSDP is the first.
Bytes build_acpi_tables(const MachineDescription& machine, std::uint64_t base);

/// The differentiated system description table alone.
Bytes build_dsdt(const MachineDescription& machine);

/// A system description table: `body` with its header, length and checksum.
Bytes system_description_table(std::string_view signature, std::uint8_t revision, std::span<const std::uint8_t> body);

}  // namespace bulkhead::firmware
