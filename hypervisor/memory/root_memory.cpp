// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/memory/root_memory.hpp"

#include <algorithm>
#include <array>

#include "hypervisor/machine.hpp"

namespace bulkhead::hypervisor {

SpinlockProtected<RootMemory>& root_memory() {
  static constinit SpinlockProtected<RootMemory> instance;
  return instance;
}

void RootMemory::start(const StartSettings& settings) {
  table_ = PageTable<NestedFormat>(settings.root_table);
  zero_frame_ = settings.zero_frame;
  ledger_ = FrameLedger(settings.ram, settings.region_counters);
  pool_ = {};
  lent_ = 0;
  last_accessible_ = kNoFrame;
  for (const Frame frame : settings.reserve) pool_.add(frame);
}

bool RootMemory::is_hidden(Frame frame) const { return table_.translate(frame.number) != frame; }

hv_status RootMemory::hide(Frame frame) {
  if (!ledger_.is_ram(frame, 1)) return HV_STATUS_INVALID_PARAMETER;
  if (is_hidden(frame) || !ledger_.deposit(frame)) return HV_STATUS_OPERATION_DENIED;
  last_accessible_ = kNoFrame;
  if (!table_.split(frame.number, PageSize::k4KiB, pool_) ||
      !table_.replace(frame.number, zero_frame_, {.write = false})) {
    ledger_.withdraw(frame);
    return HV_STATUS_INSUFFICIENT_MEMORY;
  }
  return HV_STATUS_SUCCESS;
}

/// Hidden pages become the hypervisor's once no processor can reach them through an old translation.
void RootMemory::settle(std::span<const Frame> hidden, MemoryPool& pool) {
  if (hidden.empty()) return;
  machine::flush_root_tlb_everywhere();
  for (const Frame frame : hidden) {
    MemoryPool& taker = pool_.available() < kReserve ? pool_ : pool;
    taker.add(frame);
    if (&taker != &pool_) ++lent_;
  }
}

RootMemory::Done RootMemory::deposit(std::span<const std::uint64_t> pages, MemoryPool& pool) {
  std::array<Frame, kBatch> hidden;
  std::size_t unsettled = 0;
  Done done{0, HV_STATUS_SUCCESS};
  for (const std::uint64_t page : pages.first(std::min(pages.size(), kBatch))) {
    if (pool_.available() < kReserve) {
      settle(std::span(hidden).first(unsettled), pool);
      unsettled = 0;
    }
    done.status = page <= kMaximumPageNumber ? hide({page}) : HV_STATUS_INVALID_PARAMETER;
    if (done.status != HV_STATUS_SUCCESS) break;
    hidden[unsettled++] = {page};
    ++done.count;
  }
  settle(std::span(hidden).first(unsettled), pool);
  return done;
}

void RootMemory::show(Frame frame) {
  // The entry is a 4 KiB leaf since the page was hidden, so this cannot fail.
  (void)table_.replace(frame.number, frame, {});
  ledger_.withdraw(frame);
  for (const PageSize size : {PageSize::k2MiB, PageSize::k1GiB}) {
    const std::optional<Frame> table = table_.merge(frame.number, size);
    if (!table) return;
    machine::flush_root_tlb_everywhere();
    pool_.free(*table);
  }
}

RootMemory::Done RootMemory::withdraw(std::span<std::uint64_t> pages, MemoryPool& pool) {
  Done done{0, HV_STATUS_SUCCESS};
  const bool own = &pool == &pool_;
  std::array<Frame, kReserve> kept;
  std::size_t kept_count = 0;
  while (done.count < std::min(pages.size(), kBatch)) {
    const std::optional<Frame> frame = pool.remove();
    if (!frame) {
      done.status = HV_STATUS_NO_RESOURCES;
      break;
    }
    // Of the root's pool the hypervisor's own frames stay, and the reserve; but not if nothing is lent: then the hypervisor's own frames
    // come back from being tables as the last pages go, and are the reserve again.
    if (own && (!ledger_.is_ram(*frame, 1) || (lent_ != 0 && pool.available() + kept_count < kReserve))) {
      kept[kept_count++] = *frame;
      continue;
    }
    if (!own) --lent_;
    show(*frame);
    pages[done.count++] = frame->number;
  }
  for (std::size_t i = 0; i < kept_count; ++i) pool.add(kept[i]);
  if (done.count) machine::flush_root_tlb_everywhere();
  return done;
}

hv_status RootMemory::share(Frame frame, PageSize size) {
  if (frame.number % pages_in(size) || !ledger_.is_ram(frame, pages_in(size))) return HV_STATUS_INVALID_PARAMETER;
  return ledger_.share(frame) ? HV_STATUS_SUCCESS : HV_STATUS_OPERATION_DENIED;
}

[[gnu::noinline]] bool RootMemory::is_accessible(Frame frame) {
  if (!ledger_.is_ram(frame, 1) || (ledger_.has_deposits(frame) && is_hidden(frame))) return false;
  last_accessible_ = frame;
  return true;
}

std::optional<Frame> RootMemory::allocate() {
  const std::optional<Frame> frame = pool_.available() > kReserve ? pool_.allocate() : std::nullopt;
  if (frame) ++lent_;
  return frame;
}

void RootMemory::free(Frame frame) {
  --lent_;
  pool_.free(frame);
}

}  // namespace bulkhead::hypervisor
