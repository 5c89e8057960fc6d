// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_synic.hpp"

#include <sys/ioctl.h>

#include <cstring>
#include <utility>

namespace bulkhead::engine::kvm {
namespace {

/// What the kernel takes as a routing table.
constexpr std::size_t kMaximumRoutes = 4096;
constexpr std::uint64_t kPageMask = ~std::uint64_t{0xfff};

}  // namespace

void KvmSynic::append_routes(std::vector<kvm_irq_routing_entry>& routes) const {
  for (std::uint32_t vp = 0; vp < pages_.size(); ++vp) {
    for (std::uint32_t sint = 0; sint < abi::kSintCount; ++sint) {
      if (routes.size() >= kMaximumRoutes) return;
      kvm_irq_routing_entry entry = {};
      entry.gsi = first_gsi_ + vp * abi::kSintCount + sint;
      entry.type = KVM_IRQ_ROUTING_HV_SINT;
      entry.u.hv_sint.vcpu = vp;
      entry.u.hv_sint.sint = sint;
      routes.push_back(entry);
    }
  }
}

std::uint8_t* KvmSynic::place(std::uint64_t page, abi::Sint sint) const {
  if (memory_ == nullptr) return nullptr;
  const auto* region = memory_->find(page);
  const auto bytes = memory_->at(page, abi::kSynicPageSize);
  if (!bytes || !region->writable) return nullptr;
  return bytes->data() + std::to_underlying(sint) * sizeof(abi::SynicMessage);
}

void KvmSynic::clear(std::uint64_t page) {
  if (std::uint8_t* bytes = place(page, abi::Sint{0})) {
    std::memset(bytes, 0, abi::kSynicPageSize);
    note_write(page);
  }
}

void KvmSynic::note_write(std::uint64_t page) {
  if (written_) written_->mark(page);
}

void KvmSynic::track_dirty_pages(bool wanted) {
  const std::lock_guard lock(mutex_);
  written_.reset();
  if (wanted && memory_ != nullptr) written_.emplace(memory_->regions());
}

void KvmSynic::harvest_dirty_pages(DirtyPages& pages) {
  const std::lock_guard lock(mutex_);
  if (!written_) return;
  pages.add(*written_);
  written_.emplace(memory_->regions());
}

KvmSynic::Pages KvmSynic::pages_of(std::uint64_t control, std::uint64_t message_page, std::uint64_t event_flags_page) {
  return {.message = message_page & kPageMask,
          .event_flags = event_flags_page & kPageMask,
          .message_enabled = (message_page & abi::kSynicEnable) != 0,
          .event_flags_enabled = (event_flags_page & abi::kSynicEnable) != 0,
          .enabled = (control & abi::kSynicEnable) != 0};
}

void KvmSynic::registers_restored(std::uint32_t vp, std::uint64_t control, std::uint64_t message_page,
                                  std::uint64_t event_flags_page) {
  const std::lock_guard lock(mutex_);
  if (vp < pages_.size()) pages_[vp] = pages_of(control, message_page, event_flags_page);
}

void KvmSynic::registers_written(std::uint32_t vp, std::uint64_t control, std::uint64_t message_page,
                                 std::uint64_t event_flags_page) {
  if (vp >= pages_.size()) return;
  {
    const std::lock_guard lock(mutex_);
    Pages& pages = pages_[vp];
    const Pages before = pages;
    pages = pages_of(control, message_page, event_flags_page);
    // The pages are the guest's own memory here. What it has left there must not look like messages and events.
    if (pages.message_enabled && (!before.message_enabled || before.message != pages.message)) clear(pages.message);
    if (pages.event_flags_enabled && (!before.event_flags_enabled || before.event_flags != pages.event_flags)) {
      clear(pages.event_flags);
    }
  }
  calls_.slot_freed(abi::VpIndex{vp});
}

std::uint16_t KvmSynic::hypercall(std::uint64_t input, std::uint64_t first_parameter) const {
  // The kernel has read an event's parameter from memory already, whatever the form.
  const bool signal = static_cast<std::uint16_t>(input) == HV_CALL_SIGNAL_EVENT;
  return signal ? calls_.signal_event(first_parameter) : calls_.call(input, first_parameter);
}

SynicStatus KvmSynic::post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) {
  const std::uint32_t index = std::to_underlying(vp);
  if (index >= pages_.size() || std::to_underlying(sint) >= abi::kSintCount) return SynicStatus::Refused;
  const std::lock_guard lock(mutex_);
  const Pages& pages = pages_[index];
  std::uint8_t* slot = pages.enabled && pages.message_enabled ? place(pages.message, sint) : nullptr;
  if (slot == nullptr) return SynicStatus::Busy;
  std::atomic_ref<std::uint32_t> type(*reinterpret_cast<std::uint32_t*>(slot));
  note_write(pages.message);
  if (type.load(std::memory_order_acquire) != 0) {
    std::atomic_ref<std::uint8_t>(slot[offsetof(abi::SynicMessage, flags)]).fetch_or(abi::kMessagePending);
    // The guest frees the slot and then looks at the flag; we set the flag and then look at the slot. With a full fence
    // on both sides, either we see the free slot or the guest sees the flag and writes EOM.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (type.load(std::memory_order_acquire) != 0) return SynicStatus::Busy;
  }
  abi::SynicMessage copy = message;
  copy.flags = 0;
  constexpr std::size_t kAfterType = sizeof copy.type;
  std::memcpy(slot + kAfterType, reinterpret_cast<const std::uint8_t*>(&copy) + kAfterType, sizeof copy - kAfterType);
  // Release: the message is there before its type says so.
  type.store(std::to_underlying(copy.type), std::memory_order_release);
  raise(vp, sint);
  return SynicStatus::Delivered;
}

SynicStatus KvmSynic::signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) {
  const std::uint32_t index = std::to_underlying(vp);
  if (index >= pages_.size() || std::to_underlying(sint) >= abi::kSintCount || flag >= abi::kEventFlagsPerSint) {
    return SynicStatus::Refused;
  }
  const std::lock_guard lock(mutex_);
  const Pages& pages = pages_[index];
  std::uint8_t* flags = pages.enabled && pages.event_flags_enabled ? place(pages.event_flags, sint) : nullptr;
  if (flags == nullptr) return SynicStatus::Busy;
  std::atomic_ref<std::uint32_t> word(reinterpret_cast<std::uint32_t*>(flags)[flag / 32]);
  const std::uint32_t bit = 1u << flag % 32;
  note_write(pages.event_flags);
  if ((word.fetch_or(bit) & bit) == 0) raise(vp, sint);
  return SynicStatus::Delivered;
}

void KvmSynic::raise(abi::VpIndex vp, abi::Sint sint) const {
  kvm_irq_level line = {};
  line.irq = first_gsi_ + std::to_underlying(vp) * abi::kSintCount + std::to_underlying(sint);
  line.level = 1;
  // A SINT that the guest has masked interrupts nobody; the message stays where it is.
  ioctl(machine_, KVM_IRQ_LINE, &line);
}

}  // namespace bulkhead::engine::kvm
