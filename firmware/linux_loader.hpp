// SPDX-License-Identifier: Apache-2.0
//
// Loads a Linux kernel by its boot protocol (Linux, Documentation/arch/x86/boot.rst): a bzImage of protocol 2.06 or
// later is copied to where it wants to be, and told of everything through `boot_params`, its zero page. Kernels with
// a 64-bit entry (XLF_KERNEL_64) begin there, others at the 32-bit entry.
#pragma once

#include "firmware/firmware.hpp"
#include "firmware/memory_map.hpp"

namespace bulkhead::firmware {

/// Whether the file is a Linux kernel in the bzImage format, of whatever version.
bool is_linux_kernel(std::span<const std::uint8_t> kernel);

/// `rsdp` is where the ACPI tables begin.
Result<EntryState> load_linux(engine::GuestMemory& memory, const MemoryMap& map, std::uint64_t rsdp,
                              std::span<const std::uint8_t> kernel, std::span<const std::uint8_t> initrd,
                              std::string_view command_line, const Copy& copy);

}  // namespace bulkhead::firmware
