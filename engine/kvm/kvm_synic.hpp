// SPDX-License-Identifier: Apache-2.0
//
// SynICs on KVM. The kernel has their registers and raises their interrupts; the message and event flags pages are
// ordinary memory of the guest, and writing them is up to us:
//
//   the guest writes SCONTROL, SIMP, SIEFP ──▶ exit with their values ──▶ `registers_written`
//   HvCallPostMessage, HvCallSignalEvent   ──▶ exit ──▶ `hypercall` ──▶ listener
//   the guest writes EOM ──▶ exit (by a filter; the kernel is told afterwards) ──▶ `end_of_message` ──▶ listener
//   `post_message`, `signal_event` ──▶ page ──▶ KVM_IRQ_LINE ──▶ route of type HV_SINT
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/dirty_pages.hpp"
#include "engine/guest_memory.hpp"
#include "engine/kvm/kvm_abi.hpp"
#include "engine/synic_calls.hpp"

namespace bulkhead::engine::kvm {

class KvmSynic {
 public:
  /// Routes to SINTs come after those of the IOAPIC's inputs; see `append_routes`.
  KvmSynic(int machine, std::uint32_t vp_count, std::uint32_t first_gsi)
      : machine_(machine), first_gsi_(first_gsi), pages_(vp_count) {}

  /// Before processors run.
  void set_memory(GuestMemory& memory) {
    memory_ = &memory;
    calls_.set_memory(memory);
  }
  void set_listener(SynicListener* listener) { calls_.set_listener(listener); }

  /// One route for each SINT of each VP, for the machine's routing table.
  void append_routes(std::vector<kvm_irq_routing_entry>& routes) const;

  // From the threads that run processors.
  void registers_written(std::uint32_t vp, std::uint64_t control, std::uint64_t message_page,
                         std::uint64_t event_flags_page);
  /// The status for the guest.
  std::uint16_t hypercall(std::uint64_t input, std::uint64_t first_parameter) const;
  void end_of_message(std::uint32_t vp) const { calls_.slot_freed(abi::VpIndex{vp}); }

  /// While no processor runs: the registers as they were saved. What is in the pages stays there.
  void registers_restored(std::uint32_t vp, std::uint64_t control, std::uint64_t message_page,
                          std::uint64_t event_flags_page);
  /// The pages that are written here are ordinary memory, and the kernel does not see it.
  void track_dirty_pages(bool wanted);
  void harvest_dirty_pages(DirtyPages& pages);

  // From any thread.
  SynicStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message);
  SynicStatus signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag);

 private:
  /// As the guest has set them; the page, or 0 if it is off.
  struct Pages {
    std::uint64_t message = 0;
    std::uint64_t event_flags = 0;
    bool message_enabled = false;
    bool event_flags_enabled = false;
    bool enabled = false;
  };

  static Pages pages_of(std::uint64_t control, std::uint64_t message_page, std::uint64_t event_flags_page);
  std::uint8_t* place(std::uint64_t page, abi::Sint sint) const;
  void clear(std::uint64_t page);
  void note_write(std::uint64_t page);
  void raise(abi::VpIndex vp, abi::Sint sint) const;

  int machine_;
  std::uint32_t first_gsi_;
  GuestMemory* memory_ = nullptr;
  SynicCalls calls_;
  std::mutex mutex_;
  std::vector<Pages> pages_;
  std::optional<DirtyPages> written_;  // since the last harvest, while that is noted
};

}  // namespace bulkhead::engine::kvm
