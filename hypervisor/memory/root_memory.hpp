// SPDX-License-Identifier: Apache-2.0
//
// The root's memory as the hypervisor sees it: guest physical is system physical, but for the pages that are hidden.
//
//   root's table    2 MiB leaf                 4 KiB leaves
//                  ┌───────────┐   hide a    ┌──┬──┬──┬──┐  the hidden page shows the zero frame, read-only;
//                  │ identity  │ ──page────▶ │id│0 │id│id│  the table for the leaves comes from the root's pool
//                  └───────────┘             └──┴──┴──┴──┘
//
// Hiding needs a table before the page that it hides is safe to be used as one, so the pool always keeps kReserve free
// frames: it starts with two of the hypervisor's own, and refills itself from the front of a deposit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "abi/hypercall.h"
#include "hypervisor/hypervisor.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/memory/frame_ledger.hpp"
#include "hypervisor/memory/memory_pool.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/spinlock.hpp"

namespace bulkhead::hypervisor {

class RootMemory {
 public:
  /// Splitting a 1 GiB leaf down to 4 KiB takes two tables.
  static constexpr std::uint64_t kReserve = 2;
  /// At most this many pages in one call of deposit or withdraw.
  static constexpr std::size_t kBatch = 64;

  void start(const StartSettings& settings);

  struct Done {
    std::size_t count;
    hv_status status;  // why not more
  };

  /// Hides `pages` (page numbers that the root gave, not checked) and puts them into `pool`, or into the root's own as
  /// far as its reserve needs it. OPERATION_DENIED: hidden already, or in a region that is shared.
  Done deposit(std::span<const std::uint64_t> pages, MemoryPool& pool);
  /// Gives free pages of `pool` back to the root, zeroed. NO_RESOURCES when there is none.
  Done withdraw(std::span<std::uint64_t> pages, MemoryPool& pool);
  /// The same with the root's own pool.
  Done deposit(std::span<const std::uint64_t> pages) { return deposit(pages, pool_); }
  Done withdraw(std::span<std::uint64_t> pages) { return withdraw(pages, pool_); }

  /// A page of the root (2 MiB or 4 KiB) becomes shared with a child. INVALID_PARAMETER: not the root's RAM, or not
  /// aligned; OPERATION_DENIED: deposited, or in a region with deposited pages.
  hv_status share(Frame frame, PageSize size);
  void unshare(Frame frame) { ledger_.unshare(frame); }

  /// [address, address + size) for the hypervisor to copy from or to, if it lies in one page and the root itself can reach it.
  /// Only valid while this object is locked. In line, since most calls ask for the page that the last one asked for.
  std::byte* accessible(std::uint64_t address, std::size_t size) {
    const Frame frame = Frame::at(address);
    const std::uint64_t offset = address % kPageSize;
    if (size > kPageSize - offset) return nullptr;
    if (frame != last_accessible_ && !is_accessible(frame)) [[unlikely]]
      return nullptr;
    return machine::frame_pointer(frame) + offset;
  }

  /// A frame for an object of the root's own: a partition. Takes nothing of the reserve.
  std::optional<Frame> allocate();
  void free(Frame frame);

  const MemoryPool& pool() const { return pool_; }

 private:
  bool is_hidden(Frame frame) const;
  bool is_accessible(Frame frame);
  hv_status hide(Frame frame);
  void settle(std::span<const Frame> hidden, MemoryPool& pool);
  void show(Frame frame);

  PageTable<NestedFormat> table_{Frame{}};
  Frame zero_frame_;
  /// The page that was found accessible last, or one that no address is in. Forgotten whenever a page is hidden.
  static constexpr Frame kNoFrame{~0ull};
  Frame last_accessible_ = kNoFrame;
  FrameLedger ledger_;
  MemoryPool pool_;
  std::uint64_t lent_ = 0;  // pages in pools of children, and objects of the root's own
};

/// The one there is.
SpinlockProtected<RootMemory>& root_memory();

}  // namespace bulkhead::hypervisor
