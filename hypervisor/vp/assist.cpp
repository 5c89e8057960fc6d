// SPDX-License-Identifier: Apache-2.0
//
// EOI assist: TLFS, "EOI Assist". An interrupt behind which nothing waits is ended by the guest without an exit: it clears a bit in
// its VP assist page, and that has happened by the next time anybody looks.
//
//   taken, edge-triggered, no other request ──▶ bit set, `eoi_assisted_`
//   at the next look:  bit clear ──▶ the interrupt has ended
//                      bit set, but another request has come, or the guest uses the APIC ──▶ bit taken back: an EOI will come
//
// The page is memory of the guest. What it puts there ends an interrupt of its own too early or too late, nothing else.
#include <atomic>

#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kEnable = 1;
constexpr std::uint32_t kNoEoiRequired = 1;

/// Null: the guest has no such page, or no memory there.
std::uint32_t* word_to_write(const Partition& partition, std::uint64_t assist_page) {
  if (!(assist_page & kEnable)) return nullptr;
  return reinterpret_cast<std::uint32_t*>(partition.page_to_write(GuestPage::at(assist_page)));
}
const volatile std::uint32_t* word_to_read(const Partition& partition, std::uint64_t assist_page) {
  if (!(assist_page & kEnable)) return nullptr;
  return reinterpret_cast<const volatile std::uint32_t*>(partition.page_at(GuestPage::at(assist_page)));
}

}  // namespace

void VirtualProcessor::offer_eoi_assist(std::uint8_t vector) {
  std::uint32_t* word = word_to_write(partition_, vp_assist_page_);
  if (!word || !apic_.ends_quietly(vector)) return;
  std::atomic_ref(*word).fetch_or(kNoEoiRequired);
  eoi_assisted_ = true;
}

void VirtualProcessor::withdraw_eoi_assist() {
  if (!eoi_assisted_) return;
  eoi_assisted_ = false;
  std::uint32_t* word = word_to_write(partition_, vp_assist_page_);
  if (word && !(std::atomic_ref(*word).fetch_and(~kNoEoiRequired) & kNoEoiRequired)) apic_.end_automatically();
}

void VirtualProcessor::settle_eoi_assist() {
  const volatile std::uint32_t* word = word_to_read(partition_, vp_assist_page_);
  if (!word || !(*word & kNoEoiRequired) || apic_.has_requests()) {
    withdraw_eoi_assist();
  }
}

}  // namespace bulkhead::hypervisor
