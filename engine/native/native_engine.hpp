// SPDX-License-Identifier: Apache-2.0
//
// The engine over the Bulkhead hypervisor, through the root partition's driver:
//
//   intercept message + register page ──▶ InterceptTranslator ──▶ Exit
//                 │                             │
//        MMIO, string I/O ──────────▶ emulator/ (simple accesses, one at a time)
//
// The local APICs, halts, CPUID and MSRs are the hypervisor's; only port I/O, accesses to memory that is not there,
// ends of level-triggered interrupts, interrupt windows and shutdowns come up here.
#pragma once

#include <memory>

#include "engine/engine.hpp"

namespace bulkhead::engine::native {

/// Opens /dev/bulkhead. Errors: no such device, another version of the interface, no hypervisor below.
Result<std::unique_ptr<Engine>> open_engine();

/// The same with the driver, or what stands in for it in a test.
class Vid;
Result<std::unique_ptr<Engine>> engine_over(std::unique_ptr<Vid> vid);

}  // namespace bulkhead::engine::native
