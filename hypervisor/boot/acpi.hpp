// SPDX-License-Identifier: Apache-2.0
//
// The few things that the hypervisor has to know from ACPI's tables: the processors, and how the machine goes to sleep.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/root/port_policy.hpp"

namespace bulkhead::hypervisor::boot {

/// ACPI specification, "Fixed ACPI Description Table" and "Multiple APIC Description Table".
struct AcpiFacts {
  std::uint64_t rsdp = 0;  // physical; 0: not found
  std::array<std::uint32_t, processors::kMaximum> apic_ids{};
  std::size_t processor_count = 0;
  bool too_many_processors = false;  // more than the hypervisor can own
  std::uint16_t pm_timer_port = 0;
  root::SleepControl sleep;
};

/// Looks at the tables from `rsdp` on; 0: searches it where a BIOS puts it.
AcpiFacts read_acpi(std::uint64_t rsdp);

/// Renames \_S3_ in the definition blocks, so that no operating system finds suspend to RAM: it would come back without a hypervisor.
void hide_sleep3(AcpiFacts& facts);

}  // namespace bulkhead::hypervisor::boot
