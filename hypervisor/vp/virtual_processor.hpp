// SPDX-License-Identifier: Apache-2.0
//
// A child's virtual processor: what the processor's extension does not do for it. Somebody dispatches it on a logical
// processor of theirs; it runs there until something needs them.
//
//   dispatch ──▶ prepare ──▶ enter the guest ──▶ exit ──┬── answered here: CPUID, MSRs, hypercalls, local APIC ──┐
//                  ▲                                    ├── intercept: message page, dispatch ends               │
//                  └────────────────────────────────────┼── interrupt for the root: dispatch ends               ─┘
//                                                       └── halt: dispatch ends unless there is work
//
// The files of this folder are each one part of it: run_loop, events (what interrupts the guest), cpuid, msr, hypercall, memory
// (nested page faults and the APIC page), synic, intercept (messages and the register page), registers (TLFS names), state (what has no
// name).
// The object lies in one frame of its partition's pool. One logical processor at a time owns it (Partition::acquire_vp);
// others reach its mailbox, its APIC address and the flag `blocked`, nothing else.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>

#include "abi/intercept_message.hpp"
#include "abi/register_page.hpp"
#include "hypervisor/apic/local_apic.hpp"
#include "hypervisor/decode/instruction.hpp"
#include "hypervisor/memory/frame.hpp"
#include "hypervisor/partition/partition.hpp"
#include "hypervisor/synic/synic.hpp"
#include "hypervisor/synic/synthetic_timers.hpp"
#include "hypervisor/vp/mailbox.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor {

struct GuestCall;
struct GuestCallShape;
enum class SyntheticMsr : std::uint32_t;

class VirtualProcessor {
 public:
  /// `frame`: the one that this object lies in; `hardware_frames`: those of `hardware`.
  VirtualProcessor(Partition& partition, std::uint32_t index, VpHardware& hardware, Frame frame,
                   const HardwareFrames& hardware_frames);

  std::uint32_t index() const { return index_; }
  VpHardware& hardware() { return hardware_; }
  Frame frame() const { return frame_; }
  const HardwareFrames& hardware_frames() const { return hardware_frames_; }

  struct DispatchSettings {
    bool clear_intercept_suspend;
    std::uint64_t timer_armed;
  };
  /// Call 0xc2. The caller has acquired the VP and begun its dispatch.
  hv_dispatch_vp_output dispatch(const DispatchSettings& settings);

  std::expected<abi::RegisterValue, hv_status> get_register(abi::RegisterName name) const;
  hv_status set_register(abi::RegisterName name, const abi::RegisterValue& value);

  // What a VP is beyond the registers that have names: calls 0xe3 and 0xe4. set: INVALID_REGISTER_VALUE, and nothing was changed, for what
  // no processor can have; INVALID_PARAMETER for what is malformed.

  /// First takes in what others have left for the VP and what its timer is due for, which may change registers too.
  hv_local_interrupt_controller_state get_local_apic();
  hv_status set_local_apic(const hv_local_interrupt_controller_state& state);
  hv_synthetic_timers_state get_timers() const { return timers_.save(); }
  hv_status set_timers(const hv_synthetic_timers_state& state);
  std::span<const std::byte, kPageSize> get_xsave() const { return hardware_.extended_state(); }
  hv_status set_xsave(std::span<const std::byte, kPageSize> area);
  /// Call 0xf4.
  machine::CpuidResult cpuid_values(std::uint32_t leaf, std::uint32_t subleaf) const;

  /// The partition's time stood still for so many ticks. Nobody owns the VP, and the partition's lock is held.
  void skip_time(std::uint64_t ticks);

  /// The root's page for a kind of state; null: none.
  std::optional<Frame>& state_page(hv_vp_state_page_type type) { return state_pages_[type]; }

  // From any logical processor, with the partition's lock held.
  Mailbox& mailbox() { return mailbox_; }
  /// When it wants to be dispatched again at the latest, of the root's time stamp counter.
  std::uint64_t next_deadline() const { return std::min(apic_.timer().deadline(), timer_deadline_); }
  std::int64_t tsc_offset() const { return tsc_offset_.load(std::memory_order_relaxed); }
  ApicAddress apic_address() const { return ApicAddress::unpack(apic_address_.load(std::memory_order_relaxed)); }
  /// Since it was made: how often it left the guest, and how many interrupts the guest has taken.
  std::uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }
  std::uint64_t interrupts() const { return interrupts_.load(std::memory_order_relaxed); }
  /// It was blocked and is not any more: whoever gets true must see to its being dispatched.
  bool unblock() { return blocked_.exchange(false); }

  /// What became of a message or an event, and the vector to interrupt this VP with for it.
  struct SynicResult {
    hv_status status;
    std::optional<std::uint8_t> vector = {};
    bool newly_signaled = false;
  };
  SynicResult post_from_parent(unsigned sint, const abi::SynicMessage& message);
  SynicResult signal_event(unsigned sint, std::uint16_t flag);

  /// Ownership, see Partition::acquire_vp. Partition's lock held.
  bool owned = false;

 private:
  /// By the numbers of the register InternalActivityState. Idle: halted until an interrupt is pending, whether it can be taken or not.
  enum class Activity : std::uint8_t { Running = 0, WaitForSipi = 1, Halted = 2, Idle = 4 };
  /// What handling an exit leads to.
  enum class Next : std::uint8_t { Enter, Prepare, Intercept, EndDispatch, Yield };
  enum class Prepared : std::uint8_t { Enter, Block, Intercept, EndDispatch };
  /// What the register page holds after an intercept. Code: RIP, RFLAGS, CS, EFER and CR8.
  enum class Published : std::uint8_t { All, CodeAndGeneral, Code };

  // run_loop.cpp
  hv_dispatch_vp_output run(std::uint64_t timer_armed);
  Next handle(const Exit& exit);
  Next handle_port(const Exit& exit);
  Next handle_exception(const Exit& exit);
  Next handle_set_xcr(const Exit& exit);

  // instruction.cpp
  bool finish_instruction(const Exit& exit, Operation operation);
  bool finish_unknown_length(Operation operation);
  std::optional<Instruction> fetch_instruction(const ExecutionMode& mode);
  void advance(std::uint64_t next_rip);
  void end_debugged_instruction();
  Next inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code = std::nullopt);
  Next undefined_instruction() { return inject_exception(6); }
  Next general_protection() { return inject_exception(13, 0); }

  // events.cpp
  Prepared prepare(std::uint64_t timer_armed);
  void collect_mailbox();
  void take_init();
  void start_up(std::uint8_t vector);
  void choose_event();
  bool can_take_interrupt() const;
  void inject_interrupt(std::uint8_t vector);
  void synchronize_task_priority();
  /// Before the guest reads or writes its local APIC, in whatever way.
  void synchronize_apic();
  void apic_changed();

  // registers.cpp
  std::uint64_t pending_interruption() const;
  hv_status set_pending_interruption(std::uint64_t value);
  hv_status set_instruction_pointer(std::uint64_t value);
  std::uint64_t interrupt_state() const;
  /// The root's time stamp counter for what the parent reads and sets: it stands still while the partition's time does.
  std::uint64_t now() const;

  // cpuid.cpp
  machine::CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf) const;
  void adjust_basic_leaf(std::uint32_t leaf, std::uint32_t subleaf, machine::CpuidResult& result) const;
  void adjust_extended_leaf(std::uint32_t leaf, machine::CpuidResult& result) const;
  Next handle_cpuid(const Exit& exit);

  // msr.cpp
  Next handle_read_msr(const Exit& exit);
  Next handle_write_msr(const Exit& exit);
  enum class MsrResult : std::uint8_t { Done, Fault, Unhandled };
  MsrResult read_msr(std::uint32_t msr, std::uint64_t& value);
  MsrResult read_synthetic_msr(std::uint32_t msr, std::uint64_t& value);
  MsrResult write_msr(std::uint32_t msr, std::uint64_t value);
  MsrResult write_efer(std::uint64_t value);
  MsrResult write_synthetic_msr(std::uint32_t msr, std::uint64_t value);
  MsrResult write_hypercall_page(std::uint64_t value);
  std::uint64_t synthetic_register(std::uint32_t msr) const;
  MsrResult write_apic_msr(SyntheticMsr msr, std::uint64_t value);
  MsrResult write_through(abi::RegisterName name, std::uint64_t value);
  std::uint64_t tsc_deadline() const;
  void set_tsc_deadline(std::uint64_t value, std::uint64_t now);
  void set_tsc_offset(std::int64_t offset, std::uint64_t now);
  MsrResult apply(const LocalApic::Outcome& outcome);

  // hypercall.cpp
  Next handle_guest_call(const Exit& exit, const GuestCall& call, bool wide);
  GuestCall guest_call(const ExecutionMode& mode, std::uint64_t control, const GuestCallShape& shape) const;
  hv_status read_input(const GuestCall& call, std::span<std::byte> front) const;
  Next perform(const GuestCall& call, std::span<const std::byte> input, hv_status& status);
  void flush_tlbs(std::uint64_t vps);
  Next handle_hypercall(const Exit& exit);

  // synic.cpp
  MsrResult write_synic(std::uint32_t msr, std::uint64_t value, bool by_guest = true);
  std::byte* synic_page(const std::optional<GuestPage>& place) const;
  SynicResult post_message(unsigned sint, const abi::SynicMessage& message);
  std::uint16_t take_deliverable_sints();

  // synthetic_timers.cpp
  MsrResult write_synthetic_timer(std::uint32_t msr, std::uint64_t value);
  void refresh_timer_deadline();
  void expire_timers(std::uint64_t tsc);

  // assist.cpp
  void offer_eoi_assist(std::uint8_t vector);
  void withdraw_eoi_assist();
  void settle_eoi_assist();

  // memory.cpp
  Next handle_memory(const Exit& exit);
  std::optional<Next> access_apic_page(const MemoryAccess& access);

  // intercept.cpp
  Next intercept(abi::MessageType type, abi::InterceptMessage& message, unsigned payload_size);
  /// Where the message for the parent is written, for the frequent ones: not to be read back, since the parent may write to it.
  abi::InterceptMessage& message_in_place();
  Next intercept_in_place(abi::MessageType type, abi::InterceptMessage& message, unsigned payload_size);
  void fill_header(abi::InterceptHeader& header, abi::InterceptAccess access, unsigned instruction_length) const;
  Next intercept_memory(const MemoryAccess& access);
  Next intercept_cpuid(const Exit& exit, const machine::CpuidResult& result);
  Next intercept_msr(const Exit& exit, abi::InterceptAccess access);
  Next intercept_hypercall(const Exit& exit);
  Next intercept_eoi(std::uint8_t vector);
  Next intercept_plain(abi::MessageType type);
  void intercept_deliverable(abi::InterruptionType type);
  void intercept_deliverable_sints(std::uint16_t sints);
  unsigned instruction_length(const Exit& exit);
  void publish_registers();
  hv_status take_register_page();

  Partition& partition_;
  VpHardware& hardware_;
  LocalApic apic_;
  Mailbox mailbox_;
  Synic synic_;
  std::atomic<std::uint64_t> apic_address_{0};
  std::atomic<std::uint16_t> waiting_sints_{0};  // a message of the parent found the slot full
  std::atomic<bool> blocked_{false};
  std::atomic<std::uint64_t> exits_{0}, interrupts_{0};  // changed by the owner only

  const std::uint32_t index_;
  const Frame frame_;
  const HardwareFrames hardware_frames_;
  std::uint32_t seen_generation_ = 0;
  bool explicit_suspend_ = true;
  bool intercept_suspend_ = false;
  Activity activity_;
  bool nmi_pending_ = false;
  std::optional<std::uint8_t> external_interrupt_;     // from the PIC
  std::uint64_t notifications_ = 0;                    // DeliverabilityNotifications
  bool changed_ = true;                                // prepare before the next entry
  bool ended_for_timer_ = false;                       // the last dispatch, before the guest was entered
  std::uint64_t deadline_ = 0;                         // of the timers, as of the last prepare
  std::optional<std::uint8_t> ended_level_interrupt_;  // to be told to the parent
  std::uint32_t exception_intercepts_ = 0;
  Published published_ = Published::All;
  std::uint64_t wake_set_ = 0;
  std::atomic<std::int64_t> tsc_offset_;  // changed by the owner only
  std::uint64_t vp_assist_page_ = 0;
  bool eoi_assisted_ = false;  // the interrupt in service ends when the guest clears the bit in the assist page

  SyntheticTimers timers_;
  std::uint64_t timer_deadline_ = ApicTimer::kNever;  // theirs, of the root's time stamp counter
  bool timer_messages_wait_ = false;
  std::uint32_t time_generation_ = 0;

  std::array<std::uint64_t, 5> crash_parameters_{};

  /// Where the last instruction was that exited: its page's memory, for a quick look at its bytes the next time.
  struct FetchCache {
    std::uint64_t rip_page = ~0ull;
    std::uint64_t code_space = 0;
    std::uint32_t generation = 0;
    const std::byte* instruction_page = nullptr;  // the byte at RIP is here plus RIP's offset in its page
  };
  FetchCache fetch_cache_;
  std::optional<Frame> state_pages_[2];
  abi::InterceptMessage unread_message_;  // where there is no page
};
static_assert(sizeof(VirtualProcessor) <= kPageSize);

}  // namespace bulkhead::hypervisor
