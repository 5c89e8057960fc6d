// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_memory.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "engine/kvm/kvm_abi.hpp"

namespace bulkhead::engine::kvm {

bool KvmMemory::set_slot(std::uint32_t slot, std::uint32_t flags) const {
  const MemoryRegion& region = memory_->regions()[slot];
  kvm_userspace_memory_region mapping = {};
  mapping.slot = slot;
  mapping.flags = region.writable ? flags : KVM_MEM_READONLY;
  mapping.guest_phys_addr = region.base;
  mapping.memory_size = region.bytes.size();
  mapping.userspace_addr = reinterpret_cast<std::uintptr_t>(region.bytes.data());
  return ioctl(machine_, KVM_SET_USER_MEMORY_REGION, &mapping) >= 0;
}

Result<> KvmMemory::map(const GuestMemory& memory) {
  memory_ = &memory;
  for (std::uint32_t slot = 0; slot < memory.regions().size(); ++slot) {
    if (set_slot(slot, 0)) continue;
    const auto& region = memory.regions()[slot];
    return std::unexpected(Error::from_errno(
        fmt::format("cannot give {:#x} bytes of memory to the guest at {:#x}", region.bytes.size(), region.base),
        errno));
  }
  return {};
}

Result<> KvmMemory::track_dirty_pages(bool wanted) {
  if (memory_ == nullptr) return fail("a partition gets its memory before its dirty pages are tracked");
  for (std::uint32_t slot = 0; slot < memory_->regions().size(); ++slot) {
    if (!memory_->regions()[slot].writable) continue;
    if (!set_slot(slot, wanted ? KVM_MEM_LOG_DIRTY_PAGES : 0)) {
      return std::unexpected(Error::from_errno("cannot have KVM note which pages are written", errno));
    }
  }
  tracks_ = wanted;
  return {};
}

Result<DirtyPages> KvmMemory::harvest_dirty_pages() const {
  if (!tracks_) return fail("dirty pages are not tracked");
  DirtyPages pages(memory_->regions());
  for (std::uint32_t slot = 0; slot < memory_->regions().size(); ++slot) {
    if (!memory_->regions()[slot].writable) continue;
    kvm_dirty_log log = {};
    log.slot = slot;
    log.dirty_bitmap = pages.words(slot).data();
    if (ioctl(machine_, KVM_GET_DIRTY_LOG, &log) < 0) {
      return std::unexpected(Error::from_errno("cannot ask KVM which pages were written", errno));
    }
  }
  return pages;
}

}  // namespace bulkhead::engine::kvm
