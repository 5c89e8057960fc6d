// SPDX-License-Identifier: Apache-2.0
//
// The last steps of a processor into the root, in code that stays when the boot code's memory has gone back.
#pragma once

#include "hypervisor/memory/frame.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor::processors {

/// The same for all processors; set before the first one starts.
struct Common {
  Frame host_table;  // the hypervisor's own page table
  Frame root_table;  // the root's second-level table
  std::uint64_t tsc_frequency;
};
extern Common common;

/// Turns virtualization on, on this processor, and makes the root's hardware for it.
void prepare(LogicalProcessor& processor);

/// Where the trampoline ends, on the processor's own stack.
[[noreturn]] void enter(LogicalProcessor& processor);

/// The boot processor's way: onto its own stack, the pages from `first` to `end` (virtual) forgotten, and into the root.
[[noreturn]] void leave_boot(LogicalProcessor& processor, const std::byte* first, const std::byte* end);

/// The virtualization extension's part of `prepare` (svm/).
VpHardware* create_root_hardware(LogicalProcessor& processor, const VpHardwareSettings& settings);

}  // namespace bulkhead::hypervisor::processors
