// SPDX-License-Identifier: Apache-2.0
//
// Loads a Multiboot 1 kernel (Multiboot Specification 0.6.96): a 32-bit ELF image, or any file whose Multiboot header
// carries the addresses itself. It begins in 32-bit protected mode with the Multiboot information in EBX.
#pragma once

#include "firmware/firmware.hpp"
#include "firmware/memory_map.hpp"

namespace bulkhead::firmware {

/// Whether there is a Multiboot 1 header where one must be, in the first 8 KiB.
bool is_multiboot_kernel(std::span<const std::uint8_t> kernel);

/// `module` may be empty: no module.
Result<EntryState> load_multiboot(engine::GuestMemory& memory, const MemoryMap& map,
                                  std::span<const std::uint8_t> kernel, std::span<const std::uint8_t> module,
                                  std::string_view command_line, const Copy& copy);

}  // namespace bulkhead::firmware
