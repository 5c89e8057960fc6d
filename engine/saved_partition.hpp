// SPDX-License-Identifier: Apache-2.0
//
// A partition in saved state, apart from its processors: what it was made with, and its reference time. Both engines write it this
// way, and both look in the same way at whether a guest can go on by this host's counter.
#pragma once

#include "engine/engine.hpp"

namespace bulkhead::engine {

state::SavedUnit save_partition(const PartitionSettings& settings, std::uint64_t reference_time);

/// Gives the reference time, in units of 100 ns and at most `latest`. Error: the partition was made with other settings.
Result<std::uint64_t> read_saved_partition(const state::SavedUnit& saved, const PartitionSettings& settings,
                                           std::uint64_t latest);

/// Error: the guest's time stamp counter runs at another rate than this host's. Both in Hz.
Result<> check_counter_frequency(std::uint64_t saved, std::uint64_t own);

}  // namespace bulkhead::engine
