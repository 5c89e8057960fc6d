// SPDX-License-Identifier: Apache-2.0
//
// One algorithm for every page table: the hypervisor's own, nested page tables, and later EPT. What differs, the bits of
// an entry, is the template's Format. Four levels of 512 entries:
//
//   level 4 ──▶ level 3 ──▶ level 2 ──▶ level 1
//               1 GiB leaf  2 MiB leaf  4 KiB leaf
//
// Processors walk a table while it changes, so a table is complete before it is linked, and an entry changes in one
// store, or is exchanged where the processor may set accessed and dirty bits meanwhile. Nothing here flushes: whoever takes a
// right away, or gets a table back, flushes before it goes on.
// Allocator: `std::optional<Frame> allocate()` (zeroed) and `void free(Frame)`. Out of memory changes nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>

#include "hypervisor/machine.hpp"
#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

/// The size of a leaf is the level that it is in.
enum class PageSize : std::uint8_t { k4KiB = 1, k2MiB = 2, k1GiB = 3 };

/// In pages of 4 KiB.
constexpr std::uint64_t pages_in(PageSize size) { return 1ull << (9 * (static_cast<unsigned>(size) - 1)); }

struct PageRights {
  bool write = true;
  bool execute = true;
  bool uncached = false;
  bool operator==(const PageRights&) const = default;
};

struct PageMapping {
  Frame frame;  // of the leaf's first page
  PageSize size;
  PageRights rights;
  bool operator==(const PageMapping&) const = default;
};

enum class PageTableError : std::uint8_t {
  OutOfMemory,
  AlreadyMapped,  // something is mapped in the range
  NotMapped,
  WrongSize,   // mapped, but as a part of a larger page or as smaller ones
  Misaligned,  // or beyond the address space
};

/// x86 page tables for a processor's own paging. `execute` false needs EFER.NXE.
struct HostFormat {
  static constexpr std::uint64_t kTable = 0x3;  // present, writable
  static constexpr std::uint64_t kLeaf = 0x1;

  static constexpr std::uint64_t kPresent = 1;
  static constexpr std::uint64_t kWritable = 2;
  static constexpr std::uint64_t kAccessed = 1 << 5;
  static constexpr std::uint64_t kDirty = 1 << 6;
  static constexpr std::uint64_t kTouched = kAccessed | kDirty;
  static constexpr std::uint64_t kLargeLeaf = 1 << 7;
  /// Ours, in the entry of a table: that is a large leaf cut in pieces, and is mapped and unmapped as one.
  static constexpr std::uint64_t kCut = 1 << 9;
  static constexpr std::uint64_t kFrameBits = 0x000ffffffffff000;

  static constexpr std::uint64_t leaf_bits(PageRights rights) {
    return kLeaf | (rights.write ? 2u : 0u) | (rights.uncached ? 0x18u : 0u) | (rights.execute ? 0 : 1ull << 63);
  }
  static constexpr PageRights rights(std::uint64_t leaf) {
    return {.write = (leaf & 2) != 0, .execute = !(leaf >> 63), .uncached = (leaf & 0x18) == 0x18};
  }
};

/// AMD nested page tables: the same, but each access counts as one of user mode.
struct NestedFormat : HostFormat {
  static constexpr std::uint64_t kTable = 0x7;
  static constexpr std::uint64_t leaf_bits(PageRights rights) { return HostFormat::leaf_bits(rights) | 4; }
};

template <typename Format>
class PageTable {
 public:
  constexpr explicit PageTable(Frame root) : root_(root) {}

  template <typename Allocator>
  static std::expected<PageTable, PageTableError> create(Allocator& allocator) {
    const std::optional<Frame> root = allocator.allocate();
    if (!root) return std::unexpected(PageTableError::OutOfMemory);
    return PageTable(*root);
  }

  Frame root() const { return root_; }

  /// Maps one page of `size` at page number `page`. A table below it that maps nothing is taken out and handed back in
  /// `replaced_table`: free it after a flush.
  template <typename Allocator>
  std::expected<void, PageTableError> map(std::uint64_t page, Frame frame, PageSize size, PageRights rights,
                                          Allocator& allocator, std::optional<Frame>& replaced_table) {
    if (page >= kGuestPages || page % pages_in(size) || frame.number % pages_in(size)) {
      return std::unexpected(PageTableError::Misaligned);
    }
    const auto entry = entry_for(page, size, allocator);
    if (!entry) return std::unexpected(entry.error());
    const std::uint64_t old = load(*entry);
    if (old & Format::kPresent) {
      if (is_leaf(old, static_cast<unsigned>(size)) || !is_empty(table_at(old))) {
        return std::unexpected(PageTableError::AlreadyMapped);
      }
      replaced_table = frame_of(old);
    }
    store(*entry, leaf(frame, size, rights));
    return {};
  }

  /// The same where no table can be in the way: of 4 KiB pages, or in a new table.
  template <typename Allocator>
  std::expected<void, PageTableError> map(std::uint64_t page, Frame frame, PageSize size, PageRights rights,
                                          Allocator& allocator) {
    std::optional<Frame> replaced;
    const auto result = map(page, frame, size, rights, allocator, replaced);
    if (replaced) allocator.free(*replaced);
    return result;
  }

  /// Takes away the leaf of exactly this size at `page` and tells what it was. Tables stay.
  std::expected<PageMapping, PageTableError> unmap(std::uint64_t page, PageSize size) {
    if (page >= kGuestPages || page % pages_in(size)) return std::unexpected(PageTableError::Misaligned);
    const Position position = find(page);
    const std::uint64_t old = load(position.entry);
    if (!(old & Format::kPresent)) return std::unexpected(PageTableError::NotMapped);
    if (position.level != static_cast<unsigned>(size)) return std::unexpected(PageTableError::WrongSize);
    store(position.entry, 0);
    return mapping(old, position.level);
  }

  /// Afterwards `page`, which must be mapped, is in a leaf of `size` or smaller; what is mapped, and what was accessed, stays the same. `mark`
  /// goes into the entries of the new tables.
  template <typename Allocator>
  std::expected<void, PageTableError> split(std::uint64_t page, PageSize size, Allocator& allocator,
                                            std::uint64_t mark = 0) {
    for (;;) {
      const Position position = find(page);
      const std::atomic_ref entry(*position.entry);
      std::uint64_t old = entry.load();
      if (!(old & Format::kPresent)) return std::unexpected(PageTableError::NotMapped);
      if (position.level <= static_cast<unsigned>(size)) return {};
      const std::optional<Frame> table = allocator.allocate();
      if (!table) return std::unexpected(PageTableError::OutOfMemory);
      const auto part = static_cast<PageSize>(position.level - 1);
      std::uint64_t* entries = table_of(*table);
      // Again if the processor has set a bit of the leaf meanwhile.
      do {
        const PageMapping whole = mapping(old, position.level);
        for (std::uint64_t i = 0; i < 512; ++i) {
          entries[i] = leaf(whole.frame + i * pages_in(part), part, whole.rights) | (old & Format::kTouched);
        }
      } while (!entry.compare_exchange_weak(old, table->address() | Format::kTable | mark));
    }
  }

  /// Changes what the leaf of this size at `page` maps. It must have been split off.
  std::expected<PageMapping, PageTableError> replace(std::uint64_t page, Frame frame, PageRights rights,
                                                     PageSize size = PageSize::k4KiB) {
    const Position position = find(page);
    const std::uint64_t old = load(position.entry);
    if (!(old & Format::kPresent)) return std::unexpected(PageTableError::NotMapped);
    if (position.level != static_cast<unsigned>(size)) return std::unexpected(PageTableError::WrongSize);
    store(position.entry, leaf(frame, size, rights));
    return mapping(old, position.level);
  }

  /// If the leaves around `page` of the next smaller size are what one leaf of `size` would map, makes them one and hands back the
  /// table that is not needed any more: free it after a flush.
  std::optional<Frame> merge(std::uint64_t page, PageSize size = PageSize::k2MiB) {
    const auto level = static_cast<unsigned>(size);
    const auto part = static_cast<PageSize>(level - 1);
    const Position position = find(page, level);
    const std::uint64_t link = load(position.entry);
    if (position.level != level || !(link & Format::kPresent) || is_leaf(link, level)) return std::nullopt;
    std::uint64_t* entries = table_at(link);
    const PageMapping head = mapping(load(entries), level - 1);
    if (head.frame.number % pages_in(size)) return std::nullopt;
    for (std::uint64_t i = 0; i < 512; ++i) {
      const std::uint64_t entry = load(entries + i);
      if (!(entry & Format::kPresent) || !is_leaf(entry, level - 1)) return std::nullopt;
      if (mapping(entry, level - 1) != PageMapping{head.frame + i * pages_in(part), part, head.rights})
        return std::nullopt;
    }
    store(position.entry, leaf(head.frame, size, head.rights));
    return frame_of(link);
  }

  /// The leaf that `page` is in.
  std::optional<PageMapping> walk(std::uint64_t page) const {
    if (page >= kGuestPages) return std::nullopt;
    const Position position = find(page);
    const std::uint64_t entry = load(position.entry);
    if (!(entry & Format::kPresent)) return std::nullopt;
    return mapping(entry, position.level);
  }

  /// The same for a page that is about to be written to: marks it dirty. Nothing where it may not be written.
  std::optional<PageMapping> walk_to_write(std::uint64_t page) const {
    if (page >= kGuestPages) return std::nullopt;
    const Position position = find(page);
    const std::uint64_t entry = load(position.entry);
    if ((~entry & (Format::kPresent | Format::kWritable)) != 0) return std::nullopt;
    if (!(entry & Format::kDirty)) std::atomic_ref(*position.entry).fetch_or(Format::kTouched);
    return mapping(entry, position.level);
  }

  /// Takes `clear` of Format::kAccessed and kDirty away from the 4 KiB page, adds `set`, and gives what it had of them. For taking away, a
  /// 2 MiB leaf is cut first; its pieces are what it was.
  template <typename Allocator>
  std::expected<std::uint64_t, PageTableError> change_access(std::uint64_t page, std::uint64_t clear, std::uint64_t set,
                                                             Allocator& allocator) {
    if (page >= kGuestPages) return std::unexpected(PageTableError::Misaligned);
    if (find(page).level > 2) return std::unexpected(PageTableError::NotMapped);
    if (clear) {
      if (const auto pieces = split(page, PageSize::k4KiB, allocator, Format::kCut); !pieces) {
        return std::unexpected(pieces.error());
      }
    }
    const std::atomic_ref entry(*find(page).entry);
    std::uint64_t old = entry.load();
    do {
      if (!(old & Format::kPresent)) return std::unexpected(PageTableError::NotMapped);
    } while (!entry.compare_exchange_weak(old, (old & ~clear) | set));
    return old & Format::kTouched;
  }

  /// Whether `page` is a piece of a 2 MiB leaf.
  bool is_cut(std::uint64_t page) const {
    if (page >= kGuestPages) return false;
    const Position position = find(page, 2);
    return position.level == 2 && (load(position.entry) & Format::kCut);
  }

  /// If `page` is a piece of a 2 MiB leaf, makes it one again and hands back the table that is not needed any more: free it after a flush.
  std::optional<Frame> join(std::uint64_t page) {
    if (!is_cut(page)) return std::nullopt;
    std::uint64_t* entry = find(page, 2).entry;
    const std::uint64_t link = load(entry);
    const PageMapping whole = cut_mapping(link);
    store(entry, leaf(whole.frame, whole.size, whole.rights) | Format::kTouched);
    return frame_of(link);
  }

  /// The frame behind `page`.
  std::optional<Frame> translate(std::uint64_t page) const {
    const std::optional<PageMapping> found = walk(page);
    if (!found) return std::nullopt;
    return found->frame + page % pages_in(found->size);
  }

  /// Takes everything out: calls `unmapped(PageMapping)` for each leaf and gives the tables back, the root last; the object is of no
  /// use afterwards. At most `budget` tables in one call, so that a call is short: false if there are more.
  template <typename Allocator, typename Unmapped>
  bool release(Allocator& allocator, unsigned budget, Unmapped&& unmapped) {
    if (!release_below(root_, 4, allocator, budget, unmapped)) return false;
    allocator.free(root_);
    return true;
  }

 private:
  struct Position {
    std::uint64_t* entry;
    unsigned level;
  };

  static std::uint64_t* table_of(Frame frame) {
    return reinterpret_cast<std::uint64_t*>(machine::frame_pointer(frame));
  }
  static std::uint64_t* table_at(std::uint64_t entry) { return table_of(frame_of(entry)); }
  static std::uint64_t load(std::uint64_t* entry) { return std::atomic_ref(*entry).load(std::memory_order_acquire); }
  /// Release: whoever walks into a new table finds it filled.
  static void store(std::uint64_t* entry, std::uint64_t value) {
    std::atomic_ref(*entry).store(value, std::memory_order_release);
  }
  static constexpr Frame frame_of(std::uint64_t entry) { return Frame::at(entry & Format::kFrameBits); }
  static constexpr bool is_leaf(std::uint64_t entry, unsigned level) {
    return level == 1 || (entry & Format::kLargeLeaf);
  }
  static constexpr unsigned index_of(std::uint64_t page, unsigned level) {
    return static_cast<unsigned>(page >> (9 * (level - 1))) & 511;
  }
  static constexpr std::uint64_t leaf(Frame frame, PageSize size, PageRights rights) {
    return frame.address() | Format::leaf_bits(rights) | (size == PageSize::k4KiB ? 0 : Format::kLargeLeaf);
  }
  static constexpr PageMapping mapping(std::uint64_t entry, unsigned level) {
    // Bit 12 of a large leaf is its PAT bit, not address.
    const Frame frame = level == 1 ? frame_of(entry) : Frame::at(entry & Format::kFrameBits & ~0x1fffull);
    return {frame, static_cast<PageSize>(level), Format::rights(entry)};
  }
  /// What a table that is marked as cut maps: its first piece is where the leaf began.
  static PageMapping cut_mapping(std::uint64_t link) {
    PageMapping whole = mapping(load(table_at(link)), 1);
    whole.size = PageSize::k2MiB;
    return whole;
  }
  static bool is_empty(std::uint64_t* table) {
    for (unsigned i = 0; i < 512; ++i) {
      if (load(table + i) & Format::kPresent) return false;
    }
    return true;
  }

  /// Down to the leaf or the hole that `page` is in, at most to level `lowest`.
  Position find(std::uint64_t page, unsigned lowest = 1) const {
    std::uint64_t* table = table_of(root_);
    for (unsigned level = 4;; --level) {
      std::uint64_t* entry = table + index_of(page, level);
      const std::uint64_t value = load(entry);
      if (level == lowest || !(value & Format::kPresent) || is_leaf(value, level)) return {entry, level};
      table = table_at(value);
    }
  }

  /// The entry in which a leaf of `size` belongs; tables on the way are added.
  template <typename Allocator>
  std::expected<std::uint64_t*, PageTableError> entry_for(std::uint64_t page, PageSize size, Allocator& allocator) {
    std::uint64_t* table = table_of(root_);
    for (unsigned level = 4;; --level) {
      std::uint64_t* entry = table + index_of(page, level);
      if (level == static_cast<unsigned>(size)) return entry;
      const std::uint64_t value = load(entry);
      if (!(value & Format::kPresent)) {
        const std::optional<Frame> added = allocator.allocate();
        if (!added) return std::unexpected(PageTableError::OutOfMemory);
        store(entry, added->address() | Format::kTable);
        table = table_of(*added);
      } else if (is_leaf(value, level)) {
        return std::unexpected(PageTableError::AlreadyMapped);
      } else {
        table = table_at(value);
      }
    }
  }

  template <typename Allocator, typename Unmapped>
  static bool release_below(Frame table, unsigned level, Allocator& allocator, unsigned& budget, Unmapped& unmapped) {
    std::uint64_t* entries = table_of(table);
    for (unsigned i = 0; i < 512; ++i) {
      const std::uint64_t entry = load(entries + i);
      if (!(entry & Format::kPresent)) continue;
      if (is_leaf(entry, level)) {
        store(entries + i, 0);
        unmapped(mapping(entry, level));
        continue;
      }
      if (budget == 0) return false;
      if (entry & Format::kCut) {
        unmapped(cut_mapping(entry));
      } else if (!release_below(frame_of(entry), level - 1, allocator, budget, unmapped)) {
        return false;
      }
      store(entries + i, 0);
      allocator.free(frame_of(entry));
      if (--budget == 0) return false;
    }
    return true;
  }

  Frame root_;
};

}  // namespace bulkhead::hypervisor
