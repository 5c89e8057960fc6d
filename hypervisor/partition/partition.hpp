// SPDX-License-Identifier: Apache-2.0
//
// A child partition: an address space, virtual processors, and the rules for what its parent wants to hear of. TLFS,
// "Partition Management".
//
//   Created ──initialize──▶ Active ──finalize──▶ Finalizing ──(all memory free)──▶ Finalized ──delete──▶
//
// The object lies in one frame of the root's pool; everything else that belongs to it in frames of its own pool.
// Three kinds of data: what never changes; what only the holder of the lock may touch (Guarded); and what running VPs read
// without the lock. The last kind (configuration) changes only while no VP is being dispatched. Guest memory and the
// tables that map it may be taken away while VPs run: retire() waits until none of them can still be looking at it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>

#include "abi/hypercall.h"
#include "abi/synic.hpp"
#include "hypervisor/apic/interrupt_request.hpp"
#include "hypervisor/memory/memory_pool.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/partition/cpuid_results.hpp"
#include "hypervisor/partition/intercept_table.hpp"
#include "hypervisor/partition/reference_time.hpp"
#include "hypervisor/spinlock.hpp"

namespace bulkhead::hypervisor {

class VirtualProcessor;

inline constexpr std::uint32_t kMaximumVps = 64;

enum class PartitionState : std::uint8_t { Created, Active, Finalizing, Finalized };

/// What a running VP looks at without the lock.
struct PartitionConfiguration {
  std::uint64_t creation_flags = 0;
  std::uint32_t vp_count = 0;
  std::uint32_t processors_per_socket = kMaximumVps;
  InterceptTable intercepts;
  CpuidResults cpuid_results;
  ReferenceTime reference_time;
  std::int64_t tsc_offset = 0;
};

/// What the guest's processors set for all of them: TLFS, "Establishing the Hypercall Interface".
struct GuestInterface {
  std::atomic<std::uint64_t> os_id{0};
  std::atomic<std::uint64_t> hypercall_page{0};
  std::atomic<std::uint64_t> reference_tsc{0};
};

class Partition {
 public:
  struct Guarded {
    PartitionState state = PartitionState::Created;
    MemoryPool pool;
    std::array<VirtualProcessor*, kMaximumVps> vps{};
    unsigned next_lowest_priority = 0;
    std::uint32_t reference_tsc_sequence = 0;
  };

  /// `frame`: the one that the object lies in.
  Partition(std::uint64_t id, std::uint64_t creation_flags, Frame frame);

  std::uint64_t id() const { return id_; }
  SpinlockProtected<Guarded>::Locked lock() { return guarded_.lock(); }
  const PartitionConfiguration& configuration() const { return configuration_; }
  /// To change it; null while a VP is being dispatched, and none begins while the lock is held.
  PartitionConfiguration* configure() { return any_dispatched() ? nullptr : &configuration_; }
  GuestInterface& guest_interface() { return guest_interface_; }

  // Life.
  hv_status initialize();
  /// At most a bounded piece of work: OBJECT_IN_USE if a VP runs, nothing if it is to be called again.
  std::optional<hv_status> finalize();
  hv_status create_vp(std::uint32_t index);
  hv_status delete_vp(std::uint32_t index);

  /// Takes the VP for the caller alone until release_vp: nobody dispatches, changes or deletes it meanwhile. With
  /// `dispatch` it counts as running on this logical processor.
  struct VpOrStatus {
    VirtualProcessor* vp;
    hv_status status;
  };
  VpOrStatus acquire_vp(std::uint32_t index, bool dispatch = false);
  void release_vp(VirtualProcessor& vp);

  // Memory.

  /// Maps a page or large page of the root, shared with it already. `retired`: a table that is out of use; retire(), then free it.
  hv_status map(GuestPage page, Frame frame, PageSize size, PageRights rights, std::optional<Frame>& retired);
  /// `table`: one that is out of use, if the page was cut in pieces.
  std::expected<Frame, hv_status> unmap(GuestPage page, PageSize size, std::optional<Frame>& table);
  /// When it returns, no VP uses what was unmapped before the call. Not with the lock held.
  void retire();
  void free_table(Frame table) { lock()->pool.free(table); }

  /// Call 0xc9 for a page, with its flags: what it was, HV_GPA_PAGE_*. `table`: one that is out of use, of pieces that were joined. After bits
  /// were taken away, and before that is relied on, retire().
  std::expected<std::uint8_t, hv_status> change_access(GuestPage page, std::uint64_t flags,
                                                       std::optional<Frame>& table);

  /// The guest's page as memory; null: not mapped. By a VP between two calls of `settle`, or with the lock held.
  const std::byte* page_at(GuestPage page) const;
  /// The same to write to, which is noted as if the guest had done it. Null: not mapped, or not writable.
  std::byte* page_to_write(GuestPage page) const;

  /// Time stands still for the partition: its reference time, and for the parent, which lets no VP run meanwhile, its VPs' time stamp
  /// counters and timers. After the thaw all of them go on from there. INVALID_PARTITION_STATE: a VP is in use.
  hv_status freeze_time(bool frozen);

  /// Writes the reference TSC page anew, if the guest has one: after a change of its place, of a VP's time stamp counter or of
  /// the reference time. `guarded` is this partition's.
  void refresh_reference_tsc(Guarded& guarded);

  // Running.

  /// The VP looks at no guest memory and no table at this moment. Returns whether its translations must be flushed.
  bool settle(std::uint32_t vp_index, std::uint32_t& seen_generation);

  /// Leaves the interrupt with every APIC that it is meant for; returns the VPs that it wakes. `sender`: a VP index or
  /// kNoVp.
  std::uint64_t deliver(const InterruptRequest& request, std::uint32_t sender);
  static constexpr std::uint32_t kNoVp = kMaximumVps;
  /// The same for those of a set (bit n: VP n).
  std::uint64_t deliver_to(std::uint64_t vps, const InterruptRequest& request);

  /// VPs of the set are to forget their translations before they enter the guest again; those in it leave it. One that has done so,
  /// or that is not dispatched, is not outstanding any more.
  void request_flush(std::uint64_t vps);
  bool flush_outstanding(std::uint64_t vps) const;
  /// By the VP that is to flush.
  bool take_flush_request(std::uint32_t vp_index) {
    const std::uint64_t bit = 1ull << vp_index;
    return (flush_requests_.load() & bit) && (flush_requests_.fetch_and(~bit) & bit);
  }

  /// A message or an event of the parent for a VP's SynIC.
  struct SynicDelivery {
    hv_status status;
    std::uint64_t woken = 0;
    bool newly_signaled = false;
  };
  SynicDelivery post_message(std::uint32_t vp_index, unsigned sint, const abi::SynicMessage& message);
  SynicDelivery signal_event(std::uint32_t vp_index, unsigned sint, std::uint16_t flag);

 private:
  friend class PartitionTable;
  friend class PartitionReference;

  bool any_dispatched() const;
  static bool any_owned(const Guarded& guarded);
  void free_vp(Guarded& guarded, std::uint32_t index);
  std::uint64_t tell(VirtualProcessor& vp);
  template <typename Deliver>
  SynicDelivery deliver_synic(std::uint32_t vp_index, Deliver&& deliver);
  std::uint64_t deliver_lowest_priority(Guarded& guarded, const InterruptRequest& request, std::uint32_t sender);

  const std::uint64_t id_;
  const Frame frame_;
  PartitionConfiguration configuration_;
  GuestInterface guest_interface_;
  PageTable<NestedFormat> address_space_{Frame{}};  // changed with the lock held, walked without
  SpinlockProtected<Guarded> guarded_;
  std::atomic<std::uint32_t> generation_{1};
  /// For each VP: 0 while it is not dispatched, else logical processor + 1 and, from bit 32, the generation it has seen.
  std::array<std::atomic<std::uint64_t>, kMaximumVps> presence_{};
  std::atomic<std::uint64_t> flush_requests_{0};
  std::atomic<std::uint32_t> references_{0};  // rises only with the partition table's lock held
};

}  // namespace bulkhead::hypervisor
