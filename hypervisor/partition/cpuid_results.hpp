// SPDX-License-Identifier: Apache-2.0
//
// CPUID answers that the parent registered (call 0x91). They lie in one frame of the partition's pool, sorted by leaf; a
// 64-bit filter of the leaves in it lets CPUID skip the search for nearly all others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/hypercall.h"
#include "hypervisor/machine.hpp"
#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

class CpuidResults {
 public:
  struct Entry {
    std::uint32_t leaf, subleaf;
    std::uint32_t vp_index;  // or HV_VP_INDEX_ANY
    std::uint32_t every_subleaf;
    machine::CpuidResult value, mask;
  };
  static constexpr std::size_t kCapacity = kPageSize / sizeof(Entry);

  CpuidResults() = default;
  /// `entries` is the memory of `frame`.
  CpuidResults(Entry* entries, Frame frame) : entries_(entries), frame_(frame) {}
  Frame frame() const { return frame_; }

  /// Adds, or replaces one for the same leaf, sub-leaf and VP. INSUFFICIENT_MEMORY when the frame is full.
  hv_status add(const Entry& entry);

  /// Puts the registered bits into `result`.
  void apply(std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t vp_index, machine::CpuidResult& result) const {
    if (filter_ & filter_bit(leaf)) apply_found(leaf, subleaf, vp_index, result);
  }

 private:
  static constexpr std::uint64_t filter_bit(std::uint32_t leaf) { return 1ull << ((leaf ^ leaf >> 26) & 63); }
  void apply_found(std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t vp_index,
                   machine::CpuidResult& result) const;

  Entry* entries_ = nullptr;
  Frame frame_;
  std::uint32_t count_ = 0;
  std::uint64_t filter_ = 0;
};

}  // namespace bulkhead::hypervisor
