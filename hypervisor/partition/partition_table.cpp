// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/partition/partition_table.hpp"

#include <new>

#include "hypervisor/machine.hpp"
#include "hypervisor/memory/root_memory.hpp"

namespace bulkhead::hypervisor {

SpinlockProtected<PartitionTable>& partition_table() {
  static constinit SpinlockProtected<PartitionTable> instance;
  return instance;
}

Partition* PartitionTable::at(std::uint64_t id) const {
  const std::uint64_t place = id & kPlaceMask;
  if (place >= kMaximumPartitions) return nullptr;
  Partition* partition = places_[place];
  return partition && partition->id() == id ? partition : nullptr;
}

PartitionReference PartitionTable::find(std::uint64_t id) {
  Partition* partition = at(id);
  if (partition) partition->references_.fetch_add(1, std::memory_order_relaxed);
  return PartitionReference(partition);
}

std::expected<std::uint64_t, hv_status> PartitionTable::create(std::uint64_t creation_flags) {
  for (std::size_t place = 0; place < kMaximumPartitions; ++place) {
    if (places_[place]) continue;
    const std::optional<Frame> frame = root_memory().lock()->allocate();
    if (!frame) return std::unexpected(HV_STATUS_INSUFFICIENT_MEMORY);
    const std::uint64_t id = ++last_number_ << 8 | place;
    places_[place] = new (machine::frame_pointer(*frame)) Partition(id, creation_flags, *frame);
    ++count_;
    return id;
  }
  return std::unexpected(HV_STATUS_NO_RESOURCES);
}

hv_status PartitionTable::remove(std::uint64_t id) {
  Partition* partition = at(id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  // Only find makes references, and the table is locked; acquire, so that what the last holder did is over.
  if (partition->references_.load(std::memory_order_acquire) != 0) return HV_STATUS_OBJECT_IN_USE;
  {
    auto guarded = partition->lock();
    if (guarded->state != PartitionState::Finalized) return HV_STATUS_INVALID_PARTITION_STATE;
    if (guarded->pool.available() || guarded->pool.used()) return HV_STATUS_OPERATION_DENIED;
  }
  const Frame frame = partition->frame_;
  places_[id & kPlaceMask] = nullptr;
  --count_;
  partition->~Partition();
  root_memory().lock()->free(frame);
  return HV_STATUS_SUCCESS;
}

std::uint64_t PartitionTable::next(std::uint64_t previous) const {
  for (std::size_t place = previous ? (previous & kPlaceMask) + 1 : 0; place < kMaximumPartitions; ++place) {
    if (places_[place]) return places_[place]->id();
  }
  return 0;
}

}  // namespace bulkhead::hypervisor
