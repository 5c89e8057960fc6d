// SPDX-License-Identifier: Apache-2.0
#include "engine/emulator/page_walk.hpp"

#include <atomic>
#include <bit>

namespace bulkhead::engine::emulator {
namespace {

constexpr std::uint64_t kPresent = 1u << 0, kWritable = 1u << 1, kUser = 1u << 2, kAccessed = 1u << 5, kDirty = 1u << 6,
                        kLarge = 1u << 7;
constexpr std::uint64_t kNoExecute = 1ull << 63;
constexpr std::uint64_t kLargePageAttributeTable = 1u << 12;
constexpr std::uint32_t kErrorPresent = 1, kErrorWrite = 2, kErrorUser = 4, kErrorReserved = 8, kErrorFetch = 16;

/// How one form of paging divides an address.
struct Form {
  unsigned levels;
  bool is_pae;  // the top level has four entries without rights
};

Form form_of(const ProcessorState& state) {
  if (state.efer & kEferLongModeActive) return {(state.cr4 & kCr4La57) ? 5u : 4u, false};
  if (state.cr4 & kCr4PhysicalAddressExtension) return {3, true};
  return {2, false};
}

constexpr std::uint64_t bits(unsigned first, unsigned last) {  // inclusive
  return last < first ? 0 : (~0ull >> (63 - last)) & (~0ull << first);
}

/// One walk. `Entry` is the type of a table entry: 32 bits without PAE, else 64.
template <typename Entry>
class Walk {
 public:
  Walk(const ProcessorState& state, GuestMemory& memory, std::uint64_t linear, AccessKind access, WrittenPages* written)
      : state_(state), memory_(memory), linear_(linear), access_(access), written_(written), form_(form_of(state)) {
    if constexpr (kWide) {
      reserved_ = bits(state.physical_address_bits, 51) | (form_.is_pae ? bits(52, 62) : 0) |
                  ((state.efer & kEferNoExecute) ? 0 : kNoExecute);
    }
  }

  /// False if an entry changed under the walk.
  bool run(Translation& result);

 private:
  static constexpr bool kWide = sizeof(Entry) == 8;
  static constexpr unsigned kIndexBits = kWide ? 9 : 10;

  bool has_rights(unsigned level) const { return !form_.is_pae || level != 3; }
  bool is_leaf(std::uint64_t entry, unsigned level) const {
    if (level == 1) return true;
    if (!(entry & kLarge)) return false;
    if constexpr (!kWide) return state_.cr4 & kCr4PageSizeExtension;
    return level == 2 || (level == 3 && !form_.is_pae);
  }
  bool is_reserved(std::uint64_t entry, unsigned level, bool leaf) const;
  bool is_permitted() const;
  GuestPhysicalAddress leaf_address(std::uint64_t entry, unsigned level) const;
  /// Sets accessed and dirty bits. False if the entry is not any more what it was.
  bool mark(GuestPhysicalAddress address, std::uint8_t* place, std::uint64_t entry, unsigned level, bool leaf);
  Translation fault(std::uint32_t error) const {
    if (access_.write) error |= kErrorWrite;
    if (access_.user) error |= kErrorUser;
    if (access_.fetch && ((state_.efer & kEferNoExecute) || (state_.cr4 & kCr4Smep))) error |= kErrorFetch;
    return {Translation::Outcome::PageFault, error, 0};
  }

  const ProcessorState& state_;
  GuestMemory& memory_;
  std::uint64_t linear_;
  AccessKind access_;
  WrittenPages* written_;
  Form form_;
  std::uint64_t reserved_ = 0;                // in an entry of any level
  std::uint64_t rights_ = kWritable | kUser;  // that all levels give
  std::uint64_t restrictions_ = 0;            // that any level makes: no execution
};

template <typename Entry>
bool Walk<Entry>::is_reserved(std::uint64_t entry, unsigned level, bool leaf) const {
  // A 4 MiB page has physical address bits 39-32 in bits 20-13; the rest of the way to bit 22 must be zero.
  if constexpr (!kWide) return leaf && level == 2 && (entry & (1u << 21));
  // The processor checked these when CR3 was loaded. Bit 5 should be zero, but emulated processors set it as if it were
  // the accessed bit.
  if (form_.is_pae && level == 3) return entry & (reserved_ | kNoExecute | bits(1, 2) | bits(6, 8));
  if (entry & reserved_) return true;
  if (!(entry & kLarge) || level == 1) return false;
  return leaf ? (entry & bits(13, 12 + 9 * (level - 1) - 1)) != 0 : level >= 4;
}

template <typename Entry>
bool Walk<Entry>::is_permitted() const {
  const bool user_page = rights_ & kUser;
  if (access_.user && !user_page) return false;
  if (access_.fetch) {
    if (restrictions_ & kNoExecute) return false;
    return access_.user || !(user_page && (state_.cr4 & kCr4Smep));
  }
  if (!access_.user && user_page && (state_.cr4 & kCr4Smap) && !(state_.rflags & kAlignmentCheck)) return false;
  return !access_.write || (rights_ & kWritable) || (!access_.user && !(state_.cr0 & kCr0WriteProtect));
}

template <typename Entry>
GuestPhysicalAddress Walk<Entry>::leaf_address(std::uint64_t entry, unsigned level) const {
  const unsigned offset_bits = 12 + kIndexBits * (level - 1);
  const std::uint64_t offset = linear_ & bits(0, offset_bits - 1);
  if (!kWide && level == 2) return (entry & bits(22, 31)) | (entry & bits(13, 20)) << 19 | offset;
  std::uint64_t base = entry & bits(12, 51);
  if (level > 1) base &= ~kLargePageAttributeTable & ~bits(0, offset_bits - 1);
  return base | offset;
}

template <typename Entry>
bool Walk<Entry>::mark(GuestPhysicalAddress address, std::uint8_t* place, std::uint64_t entry, unsigned level,
                       bool leaf) {
  std::uint64_t wanted = has_rights(level) ? kAccessed : 0;
  if (leaf && access_.write) wanted |= kDirty;
  if ((entry & wanted) == wanted) [[likely]]
    return true;
  auto expected = static_cast<Entry>(entry);
  const bool marked = std::atomic_ref<Entry>(*reinterpret_cast<Entry*>(place))
                          .compare_exchange_strong(expected, static_cast<Entry>(entry | wanted));
  if (written_ != nullptr) written_->note(address);
  return marked;
}

template <typename Entry>
bool Walk<Entry>::run(Translation& result) {
  std::uint64_t table = state_.cr3 & (form_.is_pae ? bits(5, 31) : kWide ? bits(12, 51) : bits(12, 31));
  for (unsigned level = form_.levels;; --level) {
    const unsigned shift = 12 + kIndexBits * (level - 1);
    const std::uint64_t index = (linear_ >> shift) & (has_rights(level) ? (1u << kIndexBits) - 1 : 3u);
    const std::uint64_t address = table + index * sizeof(Entry);
    const MemoryRegion* region = memory_.find(address);
    if (region == nullptr) {
      result = {Translation::Outcome::TableNotInMemory, 0, address};
      return true;
    }
    std::uint8_t* place = region->bytes.data() + (address - region->base);
    const std::uint64_t entry =
        std::atomic_ref<Entry>(*reinterpret_cast<Entry*>(place)).load(std::memory_order_relaxed);
    const bool leaf = is_leaf(entry, level);
    if (!(entry & kPresent) || is_reserved(entry, level, leaf)) {
      result = fault((entry & kPresent) ? kErrorPresent | kErrorReserved : 0);
      return true;
    }
    if (has_rights(level)) {
      rights_ &= entry;
      restrictions_ |= entry;
    }
    if (leaf && !is_permitted()) {
      result = fault(kErrorPresent);
      return true;
    }
    if (region->writable && !mark(address, place, entry, level, leaf)) return false;
    if (leaf) {
      result = {Translation::Outcome::Mapped, 0, leaf_address(entry, level)};
      return true;
    }
    table = entry & (kWide ? bits(12, 51) : bits(12, 31));
  }
}

template <typename Entry>
Translation walk(const ProcessorState& state, GuestMemory& memory, std::uint64_t linear, AccessKind access,
                 WrittenPages* written) {
  // Another processor that changes an entry again and again in our way is left to win after some rounds: the fault
  // sends this one back to the same instruction.
  Translation result = {Translation::Outcome::PageFault, 0, 0};
  for (int round = 0; round < 16; ++round) {
    if (Walk<Entry>(state, memory, linear, access, written).run(result)) return result;
  }
  return result;
}

}  // namespace

Translation translate(const ProcessorState& state, GuestMemory& memory, std::uint64_t linear, AccessKind access,
                      WrittenPages* written) {
  if (!(state.cr0 & kCr0Paging)) return {Translation::Outcome::Mapped, 0, linear & 0xffffffff};
  const bool wide = (state.efer & kEferLongModeActive) || (state.cr4 & kCr4PhysicalAddressExtension);
  return wide ? walk<std::uint64_t>(state, memory, linear, access, written)
              : walk<std::uint32_t>(state, memory, linear, access, written);
}

}  // namespace bulkhead::engine::emulator
