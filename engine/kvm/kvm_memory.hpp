// SPDX-License-Identifier: Apache-2.0
//
// A KVM machine's memory slots, one for each region of guest memory, and the kernel's log of the pages that were written
// in them. Harvesting takes a slot's log and write-protects its pages again, in one step of the kernel.
#pragma once

#include "engine/dirty_pages.hpp"
#include "engine/guest_memory.hpp"
#include "error/error.hpp"

namespace bulkhead::engine::kvm {

class KvmMemory {
 public:
  explicit KvmMemory(int machine) : machine_(machine) {}

  Result<> map(const GuestMemory& memory);
  Result<> track_dirty_pages(bool wanted);
  Result<DirtyPages> harvest_dirty_pages() const;

 private:
  bool set_slot(std::uint32_t slot, std::uint32_t flags) const;

  int machine_;
  const GuestMemory* memory_ = nullptr;
  bool tracks_ = false;
};

}  // namespace bulkhead::engine::kvm
