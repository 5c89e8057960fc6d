// SPDX-License-Identifier: Apache-2.0
//
// What the engine needs of a kernel's KVM, and what it says, in one line, where that is not there.
#pragma once

#include <functional>
#include <string>

#include "engine/engine.hpp"

namespace bulkhead::engine::kvm {

/// KVM_CHECK_EXTENSION.
using ExtensionCheck = std::function<int(int capability)>;

/// Error: the first capability that is missing, with the Linux that has it, or the kernel option that leaves it out.
Result<> check_requirements(const ExtensionCheck& extension);

/// Everything that SynICs take.
bool has_synic(const ExtensionCheck& extension);
/// Everything that saved state takes.
bool has_saved_state(const ExtensionCheck& extension);

/// Why the device could not be opened. `virtualizes` says whether the processor offers SVM or VMX to this kernel.
std::string explain_open_failure(std::string_view path, int error, bool virtualizes);
/// CPUID.
bool processor_virtualizes();

}  // namespace bulkhead::engine::kvm
