// SPDX-License-Identifier: Apache-2.0
//
// Accesses to guest physical addresses that the partition's table does not allow: those to the local APIC's page are
// completed here, all others are the parent's.
#include "hypervisor/decode/execute.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {

VirtualProcessor::Next VirtualProcessor::handle_memory(const Exit& exit) {
  const MemoryAccess& access = exit.memory;
  const bool apic_page = access.gpa / kPageSize == kApicBaseAddress / kPageSize;
  if (apic_page && apic_.is_xapic() && !access.fetch && !access.during_walk) {
    if (const std::optional<Next> next = access_apic_page(access)) return *next;
  }
  return intercept_memory(access);
}

/// Nothing: it is an instruction that nobody would use here and that this room does not know.
std::optional<VirtualProcessor::Next> VirtualProcessor::access_apic_page(const MemoryAccess& access) {
  const ExecutionMode mode = hardware_.mode();
  const std::optional<Instruction> instruction = fetch_instruction(mode);
  if (!instruction || !has_memory_operand(*instruction)) return std::nullopt;
  const auto offset = static_cast<std::uint32_t>(access.gpa % kPageSize);
  synchronize_apic();
  std::uint64_t before = reads_memory(*instruction) ? apic_.read(offset & ~3u, machine::tsc()) : 0;
  if (instruction->memory_size < 4) before >>= offset % 4 * 8;
  const std::optional<std::uint64_t> written = execute(*instruction, before, hardware_.general, hardware_.rflags);
  const std::uint64_t next = hardware_.rip + instruction->length;
  advance(mode.is_64_bit() ? next : static_cast<std::uint32_t>(next));
  if (written) {
    // Registers are 32 bits wide; what narrower writes would do is not defined, and they do nothing.
    if (instruction->memory_size >= 4) {
      (void)apply(apic_.write(offset, static_cast<std::uint32_t>(*written), machine::tsc()));
    }
  } else {
    apic_changed();  // reading a register that does not exist is an error, which may interrupt
  }
  return Next::Prepare;
}

}  // namespace bulkhead::hypervisor
