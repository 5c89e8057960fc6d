// SPDX-License-Identifier: Apache-2.0
#include "engine/saved_partition.hpp"

#include <fmt/format.h>

namespace bulkhead::engine {
namespace {

constexpr std::uint32_t kVersion = 1;
/// Counters of processors of one model differ by a few millionths from machine to machine; guests live with that.
constexpr std::uint64_t kFrequencyTolerance = 4000;  // one in so many

}  // namespace

state::SavedUnit save_partition(const PartitionSettings& settings, std::uint64_t reference_time) {
  state::SavedUnit saved(kVersion);
  saved.number("processors", settings.vp_count)
      .number("synic", settings.synic)
      .number("reference time", reference_time);
  return saved;
}

Result<std::uint64_t> read_saved_partition(const state::SavedUnit& saved, const PartitionSettings& settings,
                                           std::uint64_t latest) {
  state::SavedReader reader(saved, "partition", kVersion);
  const auto processors = reader.number("processors", UINT32_MAX);
  const bool synic = reader.flag("synic");
  const auto time = reader.number("reference time", latest);
  if (auto read = reader.finish(); !read) return std::unexpected(read.error());
  if (processors != settings.vp_count || synic != settings.synic) {
    return fail(fmt::format("the saved partition has {} virtual processors with{} SynICs, this has {} with{}",
                            processors, synic ? "" : "out", settings.vp_count, settings.synic ? "" : "out"));
  }
  return time;
}

Result<> check_counter_frequency(std::uint64_t saved, std::uint64_t own) {
  if ((saved > own ? saved - own : own - saved) <= own / kFrequencyTolerance) return {};
  return fail(fmt::format("the guest's time stamp counter runs at {} Hz, this host's at {} Hz", saved, own));
}

}  // namespace bulkhead::engine
