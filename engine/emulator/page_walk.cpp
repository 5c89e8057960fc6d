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
  unsigned entry_size;
  unsigned index_bits;
  bool is_pae;  // the top level has four entries without rights
};

Form form_of(const ProcessorState& state) {
  if (state.efer & kEferLongModeActive) return {(state.cr4 & kCr4La57) ? 5u : 4u, 8, 9, false};
  if (state.cr4 & kCr4PhysicalAddressExtension) return {3, 8, 9, true};
  return {2, 4, 10, false};
}

constexpr std::uint64_t bits(unsigned first, unsigned last) {  // inclusive
  return last < first ? 0 : (~0ull >> (63 - last)) & (~0ull << first);
}

template <typename Entry>
std::uint64_t load(std::uint8_t* place) {
  return std::atomic_ref<Entry>(*reinterpret_cast<Entry*>(place)).load(std::memory_order_relaxed);
}

/// Sets `flags` unless another processor changed the entry meanwhile; then the walk starts again.
template <typename Entry>
bool set(std::uint8_t* place, std::uint64_t seen, std::uint64_t flags) {
  auto expected = static_cast<Entry>(seen);
  return std::atomic_ref<Entry>(*reinterpret_cast<Entry*>(place))
      .compare_exchange_strong(expected, static_cast<Entry>(seen | flags));
}

class Walk {
 public:
  Walk(const ProcessorState& state, GuestMemory& memory, std::uint64_t linear, AccessKind access)
      : state_(state), memory_(memory), linear_(linear), access_(access), form_(form_of(state)) {}

  /// Nothing if an entry changed under the walk.
  bool run(Translation& result);

 private:
  std::uint64_t reserved_bits(std::uint64_t entry, unsigned level, bool leaf) const;
  bool is_permitted() const;
  bool is_leaf(std::uint64_t entry, unsigned level) const {
    if (level == 1) return true;
    if (!(entry & kLarge)) return false;
    if (form_.entry_size == 4) return state_.cr4 & kCr4PageSizeExtension;
    return level == 2 || (level == 3 && !form_.is_pae);
  }
  GuestPhysicalAddress leaf_address(std::uint64_t entry, unsigned level) const;
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
  Form form_;
  bool writable_ = true, user_ = true, no_execute_ = false;
};

std::uint64_t Walk::reserved_bits(std::uint64_t entry, unsigned level, bool leaf) const {
  if (form_.entry_size == 4) {
    // A 4 MiB page has physical address bits 39-32 in bits 20-13; the rest of the way to bit 22 must be zero.
    return leaf && level == 2 ? entry & (1u << 21) : 0;
  }
  std::uint64_t reserved = bits(state_.physical_address_bits, 51);
  if (form_.is_pae) reserved |= bits(52, 62);
  if (form_.is_pae && level == 3) return entry & (reserved | kNoExecute | bits(1, 2) | bits(5, 8));
  if (!(state_.efer & kEferNoExecute)) reserved |= kNoExecute;
  if (leaf && level > 1) reserved |= bits(13, 12 + 9 * (level - 1) - 1);
  if (!form_.is_pae && level >= 4) reserved |= kLarge;
  return entry & reserved;
}

bool Walk::is_permitted() const {
  if (access_.user && !user_) return false;
  if (access_.fetch) {
    if (no_execute_) return false;
    return access_.user || !user_ || !(state_.cr4 & kCr4Smep);
  }
  if (!access_.user && user_ && (state_.cr4 & kCr4Smap) && !(state_.rflags & kAlignmentCheck)) return false;
  return !access_.write || writable_ || (!access_.user && !(state_.cr0 & kCr0WriteProtect));
}

GuestPhysicalAddress Walk::leaf_address(std::uint64_t entry, unsigned level) const {
  const unsigned offset_bits = 12 + form_.index_bits * (level - 1);
  const std::uint64_t offset = linear_ & bits(0, offset_bits - 1);
  if (form_.entry_size == 4 && level == 2) return (entry & bits(22, 31)) | (entry & bits(13, 20)) << 19 | offset;
  std::uint64_t base = entry & bits(12, 51);
  if (level > 1) base &= ~kLargePageAttributeTable & ~bits(0, offset_bits - 1);
  return base | offset;
}

bool Walk::run(Translation& result) {
  std::uint64_t table =
      form_.is_pae ? state_.cr3 & bits(5, 31) : state_.cr3 & (form_.entry_size == 4 ? bits(12, 31) : bits(12, 51));
  for (unsigned level = form_.levels;; --level) {
    const unsigned shift = 12 + form_.index_bits * (level - 1);
    const std::uint64_t index = (linear_ >> shift) & ((1u << form_.index_bits) - 1);
    const std::uint64_t address = table + (form_.is_pae && level == 3 ? index & 3 : index) * form_.entry_size;
    const MemoryRegion* region = memory_.find(address);
    if (region == nullptr) {
      result = {Translation::Outcome::TableNotInMemory, 0, address};
      return true;
    }
    std::uint8_t* place = region->bytes.data() + (address - region->base);
    const std::uint64_t entry = form_.entry_size == 4 ? load<std::uint32_t>(place) : load<std::uint64_t>(place);
    if (!(entry & kPresent)) {
      result = fault(0);
      return true;
    }
    const bool leaf = is_leaf(entry, level);
    if (reserved_bits(entry, level, leaf) != 0) {
      result = fault(kErrorPresent | kErrorReserved);
      return true;
    }
    const bool has_rights = !(form_.is_pae && level == 3);
    if (has_rights) {
      writable_ = writable_ && (entry & kWritable);
      user_ = user_ && (entry & kUser);
      no_execute_ = no_execute_ || (form_.entry_size == 8 && (entry & kNoExecute));
    }
    if (leaf && !is_permitted()) {
      result = fault(kErrorPresent);
      return true;
    }
    std::uint64_t wanted = has_rights ? kAccessed : 0;
    if (leaf && access_.write) wanted |= kDirty;
    if ((entry & wanted) != wanted && region->writable) {
      const bool done =
          form_.entry_size == 4 ? set<std::uint32_t>(place, entry, wanted) : set<std::uint64_t>(place, entry, wanted);
      if (!done) return false;
    }
    if (leaf) {
      result = {Translation::Outcome::Mapped, 0, leaf_address(entry, level)};
      return true;
    }
    table = entry & (form_.entry_size == 4 ? bits(12, 31) : bits(12, 51));
  }
}

}  // namespace

Translation translate(const ProcessorState& state, GuestMemory& memory, std::uint64_t linear, AccessKind access) {
  if (!(state.cr0 & kCr0Paging)) return {Translation::Outcome::Mapped, 0, linear & 0xffffffff};
  // Another processor that changes an entry again and again in our way is left to win after some rounds: the fault
  // sends this one back to the same instruction.
  Translation result = {Translation::Outcome::PageFault, 0, 0};
  for (int round = 0; round < 16; ++round) {
    if (Walk(state, memory, linear, access).run(result)) return result;
  }
  return result;
}

}  // namespace bulkhead::engine::emulator
