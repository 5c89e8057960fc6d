// SPDX-License-Identifier: Apache-2.0
//
// All child partitions, by id. An id names its place in the table and how often that was used, so an id is never used twice:
//
//   bits 7..0 place      bits 63..8 number of the partition, from 1
//
// Who finds a partition holds a reference until it is done with it, and a partition that is referred to is not deleted.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "abi/hypercall.h"
#include "hypervisor/partition/partition.hpp"

namespace bulkhead::hypervisor {

inline constexpr std::size_t kMaximumPartitions = 128;

class PartitionReference {
 public:
  explicit PartitionReference(Partition* partition) : partition_(partition) {}
  PartitionReference(PartitionReference&& other) noexcept : partition_(std::exchange(other.partition_, nullptr)) {}
  PartitionReference(const PartitionReference&) = delete;
  PartitionReference& operator=(const PartitionReference&) = delete;
  ~PartitionReference() {
    if (partition_) partition_->references_.fetch_sub(1, std::memory_order_release);
  }

  explicit operator bool() const { return partition_ != nullptr; }
  Partition* operator->() const { return partition_; }
  Partition& operator*() const { return *partition_; }

 private:
  Partition* partition_;
};

class PartitionTable {
 public:
  /// INSUFFICIENT_MEMORY: the root's pool has no free page; NO_RESOURCES: the table is full.
  std::expected<std::uint64_t, hv_status> create(std::uint64_t creation_flags);
  /// A finalized partition whose pool is empty.
  hv_status remove(std::uint64_t id);

  /// Empty if there is none with this id.
  PartitionReference find(std::uint64_t id);
  /// The id of the first partition whose place comes after that of `previous` (0: the first of all); 0: no more.
  std::uint64_t next(std::uint64_t previous) const;
  std::uint32_t count() const { return count_; }

 private:
  static constexpr std::uint64_t kPlaceMask = 0xff;
  Partition* at(std::uint64_t id) const;

  std::array<Partition*, kMaximumPartitions> places_{};
  std::uint64_t last_number_ = 0;
  std::uint32_t count_ = 0;
};

/// The one there is.
SpinlockProtected<PartitionTable>& partition_table();

}  // namespace bulkhead::hypervisor
