// SPDX-License-Identifier: Apache-2.0
//
// What a machine finds at power-on when there is no BIOS: this room puts a kernel into the guest's memory together with
// the tables that describe the machine, and gives the registers with which processor 0 begins.
//
//   kernel bytes ──▶ recognize ──▶ Linux boot protocol (bzImage)   ──▶ EntryState of processor 0
//                             └──▶ Multiboot 1 (ELF32, or addresses in its header)
//   MachineDescription ──▶ ACPI tables, SMBIOS, memory map ──▶ guest memory (firmware/memory_layout.hpp)
//
// Guest memory must begin at 0 and hold at least the first MiB; its regions are the guest's RAM.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"
#include "engine/guest_memory.hpp"

namespace bulkhead::firmware {

/// The parts of the machine that the tables tell the guest of.
struct MachineDescription {
  std::uint32_t vp_count = 1;  // APIC ids are 0 to vp_count - 1
  bool serial_port_1 = true;   // 3F8h, IRQ 4
  bool serial_port_2 = true;   // 2F8h, IRQ 3
  /// Tells the guest of the keyboard controller. Nothing is connected to it, so a guest only loses time with it.
  bool keyboard_controller = false;
  /// Tells the guest that it has a VMBus, and of the addresses that VMBus devices may place their memory at.
  bool vmbus = false;
  /// SMBIOS system UUID.
  std::array<std::uint8_t, 16> uuid{};
};

/// How processor 0 begins: to be set in this order. The other processors wait for INIT and SIPI.
struct EntryState {
  std::vector<engine::RegisterAssignment> registers;
};

/// Copies a piece of one of the files that are loaded to where the guest gets it, both of the same size. Whoever has the file open can read it
/// to there, without having it in memory of its own. Error: it cannot be read.
using Copy = std::function<Result<>(std::span<const std::uint8_t> piece, std::span<std::uint8_t> to)>;
/// Of a file that is in memory.
Result<> copy_bytes(std::span<const std::uint8_t> piece, std::span<std::uint8_t> to);
/// `what`: in the error, what there is no memory for. Errors: that; those of `copy`.
Result<> place(engine::GuestMemory& memory, engine::GuestPhysicalAddress address, std::span<const std::uint8_t> bytes,
               std::string_view what, const Copy& copy);

/// Loads `kernel` as what it is found to be. `initrd` may be empty; for Multiboot it is the one module.
/// Errors: the file is no kernel, is cut short, is of a protocol too old, or does not fit into the guest's memory.
Result<EntryState> load(engine::GuestMemory& memory, std::span<const std::uint8_t> kernel,
                        std::span<const std::uint8_t> initrd, std::string_view command_line,
                        const MachineDescription& machine, const Copy& copy = copy_bytes);

}  // namespace bulkhead::firmware
