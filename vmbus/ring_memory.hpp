// SPDX-License-Identifier: Apache-2.0
//
// The pages of one ring as the host sees them. The guest writes them whenever it likes, so nothing here is trusted:
//
//   * an index is loaded once, checked, and only the checked copy is used;
//   * the host's own index is kept by the host; the one in the ring is only there for the guest to see;
//   * data is copied out before anybody looks into it.
//
// Offsets that are passed in come from checked indices.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "abi/vmbus_ring.hpp"
#include "engine/guest_memory.hpp"
#include "error/error.hpp"

namespace bulkhead::vmbus {

class RingMemory {
 public:
  /// The ring in these guest pages: a control page and at least one data page. Error: a page is not writable memory.
  static Result<RingMemory> map(const engine::GuestMemory& memory, std::span<const std::uint64_t> page_numbers);

  /// Bytes of data.
  std::uint32_t size() const { return static_cast<std::uint32_t>((pages_.size() - 1) * abi::vmbus::kRingPageSize); }

  std::atomic_ref<std::uint32_t> write_index() const { return word(offsetof(abi::vmbus::RingControl, write_index)); }
  std::atomic_ref<std::uint32_t> read_index() const { return word(offsetof(abi::vmbus::RingControl, read_index)); }
  std::atomic_ref<std::uint32_t> interrupt_mask() const {
    return word(offsetof(abi::vmbus::RingControl, interrupt_mask));
  }
  std::atomic_ref<std::uint32_t> pending_send_size() const {
    return word(offsetof(abi::vmbus::RingControl, pending_send_size));
  }
  std::atomic_ref<std::uint32_t> feature_bits() const { return word(offsetof(abi::vmbus::RingControl, feature_bits)); }

  /// An index of the guest's, if it can be one.
  std::optional<std::uint32_t> checked(std::uint32_t index) const {
    if (index >= size() || index % 8 != 0) return std::nullopt;
    return index;
  }
  /// Bytes between the two, from `read` on to `write`.
  std::uint32_t used(std::uint32_t read, std::uint32_t write) const {
    return write >= read ? write - read : write + size() - read;
  }
  std::uint32_t advance(std::uint32_t index, std::uint32_t by) const {
    const std::uint64_t sum = std::uint64_t{index} + by;
    return static_cast<std::uint32_t>(sum >= size() ? sum - size() : sum);
  }

  /// Copies out of and into the data from `offset` on, around its end. At most size() bytes.
  void copy_out(std::uint32_t offset, std::span<std::uint8_t> to) const;
  void copy_in(std::uint32_t offset, std::span<const std::uint8_t> from);

 private:
  explicit RingMemory(std::vector<std::uint8_t*> pages) : pages_(std::move(pages)) {}

  std::atomic_ref<std::uint32_t> word(std::size_t offset) const {
    // The control page is page-aligned memory of the guest; the offsets are multiples of 4.
    return std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(pages_[0] + offset));
  }

  std::vector<std::uint8_t*> pages_;  // the control page first
};

}  // namespace bulkhead::vmbus
