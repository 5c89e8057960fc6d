// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/partition/cpuid_results.hpp"

namespace bulkhead::hypervisor {

hv_status CpuidResults::add(const Entry& entry) {
  std::uint32_t position = 0;
  while (position < count_ && entries_[position].leaf < entry.leaf) ++position;
  for (std::uint32_t i = position; i < count_ && entries_[i].leaf == entry.leaf; ++i) {
    Entry& old = entries_[i];
    const bool same_subleaf =
        old.every_subleaf == entry.every_subleaf && (old.every_subleaf || old.subleaf == entry.subleaf);
    if (old.vp_index == entry.vp_index && same_subleaf) {
      old = entry;
      return HV_STATUS_SUCCESS;
    }
  }
  if (count_ == kCapacity) return HV_STATUS_INSUFFICIENT_MEMORY;
  for (std::uint32_t i = count_; i > position; --i) entries_[i] = entries_[i - 1];
  entries_[position] = entry;
  ++count_;
  filter_ |= filter_bit(entry.leaf);
  return HV_STATUS_SUCCESS;
}

void CpuidResults::apply_found(std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t vp_index,
                               machine::CpuidResult& result) const {
  const auto merge = [](std::uint32_t& to, std::uint32_t value, std::uint32_t mask) {
    to = (to & ~mask) | (value & mask);
  };
  for (std::uint32_t i = 0; i < count_ && entries_[i].leaf <= leaf; ++i) {
    const Entry& entry = entries_[i];
    if (entry.leaf != leaf || (!entry.every_subleaf && entry.subleaf != subleaf)) continue;
    if (entry.vp_index != HV_VP_INDEX_ANY && entry.vp_index != vp_index) continue;
    merge(result.eax, entry.value.eax, entry.mask.eax);
    merge(result.ebx, entry.value.ebx, entry.mask.ebx);
    merge(result.ecx, entry.value.ecx, entry.mask.ecx);
    merge(result.edx, entry.value.edx, entry.mask.edx);
  }
}

}  // namespace bulkhead::hypervisor
