// SPDX-License-Identifier: Apache-2.0
//
// The engine over KVM of the Linux kernel that is already running.
//
//   local APICs, HLT, INIT/SIPI, hypercalls   in the kernel ("split irqchip")
//   MMIO and string port instructions         decoded by the kernel
//   end of level-triggered interrupts         known to the kernel from its routing table (set_level_messages)
//   ExtINT of the PIC                         KVM_INTERRUPT in an interrupt window
#pragma once

#include <memory>

#include "engine/engine.hpp"

namespace bulkhead::engine::kvm {

/// Opens /dev/kvm and makes sure that it has what the engine needs. Whether it runs guests is another matter
/// (Engine::try_out).
/// Errors: the first thing that is missing, in one line.
Result<std::unique_ptr<Engine>> open_engine();

/// The same with another device file, for tests.
Result<std::unique_ptr<Engine>> open_engine_at(const char* device);

}  // namespace bulkhead::engine::kvm
