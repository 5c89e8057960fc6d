// SPDX-License-Identifier: Apache-2.0
//
// Model-specific registers of a processor by number: those that the kernel counts as its state, Hyper-V's among them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "error/error.hpp"

namespace bulkhead::engine::kvm {

struct Msr {
  std::uint32_t index;
  std::uint64_t value;
};

/// The numbers of all that are a processor's state, ascending. The time stamp counter and its deadline are not among them:
/// kvm_time.hpp has them.
Result<std::vector<std::uint32_t>> saved_msrs(int device);

std::optional<std::uint64_t> read_msr(int processor, std::uint32_t index);
bool write_msr(int processor, Msr msr);

/// Those of the MSRs that this processor has.
std::vector<Msr> read_msrs(int processor, std::span<const std::uint32_t> indices);
/// Writes those whose values are others than the processor's own, in the given order: most have the value of a new
/// processor, and some of them cannot be written at all. Error: the first that the kernel refuses.
Result<> write_msrs(int processor, std::span<const Msr> msrs);

}  // namespace bulkhead::engine::kvm
