// SPDX-License-Identifier: Apache-2.0
//
// What interrupts a VP, and in which order: INIT, SIPI, a delivery that an exit cut short, NMI, the PIC's interrupt, the
// local APIC's. AMD64 APM volume 2, "Event Injection"; Intel SDM volume 3, "Priority Among Simultaneous Events".
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kInterruptFlag = 1 << 9;
constexpr unsigned kWhateverPriority = 16;

}  // namespace

void VirtualProcessor::apic_changed() {
  apic_address_.store(apic_.address().pack());
  changed_ = true;
}

/// The guest moves CR8 without an exit.
void VirtualProcessor::synchronize_task_priority() {
  if (apic_.task_priority() >> 4 != hardware_.cr8) {
    apic_.set_task_priority(static_cast<std::uint8_t>(hardware_.cr8 << 4));
  }
}

void VirtualProcessor::synchronize_apic() {
  synchronize_task_priority();
  withdraw_eoi_assist();
}

void VirtualProcessor::collect_mailbox() {
  const Mailbox::Collected collected =
      mailbox_.collect([this](std::uint8_t vector, bool level) { apic_.accept(vector, level); });
  if (collected.init) take_init();
  if (collected.startup) start_up(*collected.startup);
  if (collected.nmi && activity_ != Activity::WaitForSipi) nmi_pending_ = true;
  if (collected.external) external_interrupt_ = collected.external;
}

void VirtualProcessor::take_init() {
  hardware_.reset(true);
  apic_.init();
  eoi_assisted_ = false;
  apic_changed();
  nmi_pending_ = false;
  external_interrupt_.reset();
  ended_level_interrupt_.reset();
  activity_ = index_ == 0 ? Activity::Running : Activity::WaitForSipi;
}

void VirtualProcessor::start_up(std::uint8_t vector) {
  if (activity_ != Activity::WaitForSipi) return;
  hardware_.start_up(vector);
  activity_ = Activity::Running;
}

bool VirtualProcessor::can_take_interrupt() const {
  return (hardware_.rflags & kInterruptFlag) && !hardware_.interrupt_shadow && !hardware_.event;
}

void VirtualProcessor::inject_interrupt(std::uint8_t vector) {
  hardware_.event = {.type = Event::Type::ExternalInterrupt, .vector = vector};
  interrupts_.store(interrupts() + 1, std::memory_order_relaxed);
}

/// Chooses what the next entry delivers, and asks for an exit when the guest can take what has to wait.
void VirtualProcessor::choose_event() {
  synchronize_task_priority();
  if (nmi_pending_ && !hardware_.event && !hardware_.nmi_masked && !hardware_.interrupt_shadow) {
    hardware_.event = {.type = Event::Type::Nmi, .vector = 2};
    hardware_.nmi_masked = true;
    nmi_pending_ = false;
  }
  if (external_interrupt_ && apic_.accepts_external() && can_take_interrupt()) {
    inject_interrupt(*external_interrupt_);
    external_interrupt_.reset();
  }
  if (can_take_interrupt()) {
    if (const std::optional<std::uint8_t> vector = apic_.deliverable()) {
      apic_.take(*vector);
      if (synic_.ends_automatically(*vector))
        apic_.end_automatically();
      else if (vp_assist_page_)
        offer_eoi_assist(*vector);
      inject_interrupt(*vector);
    }
  }
  if (hardware_.event && activity_ != Activity::Running) activity_ = Activity::Running;
  if (activity_ == Activity::Idle && (apic_.has_requests() || external_interrupt_)) activity_ = Activity::Running;

  // An interrupt below the one in service waits for EOI, which exits anyway; the others for RFLAGS.IF or CR8.
  unsigned priority = 0;
  const bool notify = (notifications_ & abi::kNotifyInterruptDeliverable) && apic_.accepts_external();
  if (notify || (external_interrupt_ && apic_.accepts_external())) {
    priority = kWhateverPriority;
  } else if (const std::optional<std::uint8_t> waiting = apic_.waiting()) {
    priority = *waiting >> 4;
  }
  hardware_.request_interrupt_window(priority);
  if (nmi_pending_ || (notifications_ & abi::kNotifyNmiDeliverable)) {
    hardware_.request_nmi_window();
    changed_ = true;  // what is in its way may be the delivery of another event: look again after the next exit
  }
}

VirtualProcessor::Prepared VirtualProcessor::prepare(std::uint64_t timer_armed) {
  changed_ = false;
  if (mailbox_.needs_attention()) collect_mailbox();
  if (partition_.settle(index_, seen_generation_)) hardware_.flush_tlb();
  const std::uint64_t now = machine::tsc();
  if (now >= apic_.timer().deadline()) apic_.fire_timer(now);
  if (now >= timer_deadline_ || timer_messages_wait_) [[unlikely]]
    expire_timers(now);
  if (eoi_assisted_) settle_eoi_assist();

  if (ended_level_interrupt_) {
    intercept_eoi(*ended_level_interrupt_);
    ended_level_interrupt_.reset();
    return Prepared::Intercept;
  }
  if (waiting_sints_.load(std::memory_order_relaxed)) [[unlikely]] {
    if (const std::uint16_t sints = take_deliverable_sints()) {
      intercept_deliverable_sints(sints);
      return Prepared::Intercept;
    }
  }
  if (activity_ != Activity::WaitForSipi) choose_event();
  if ((notifications_ & abi::kNotifyNmiDeliverable) && !hardware_.nmi_masked && !hardware_.event &&
      activity_ != Activity::WaitForSipi) {
    notifications_ &= ~abi::kNotifyNmiDeliverable;
    intercept_deliverable(abi::InterruptionType::Nmi);
    return Prepared::Intercept;
  }
  if ((notifications_ & abi::kNotifyInterruptDeliverable) && apic_.accepts_external() && !external_interrupt_ &&
      activity_ != Activity::WaitForSipi && can_take_interrupt()) {
    notifications_ &= ~abi::kNotifyInterruptDeliverable;
    intercept_deliverable(abi::InterruptionType::External);
    return Prepared::Intercept;
  }
  // The waking of others and an earlier deadline are the dispatcher's business at once.
  if (wake_set_) return Prepared::EndDispatch;
  if (activity_ != Activity::Running) {
    // From here on a poster finds `blocked_` set; what was posted before is seen now.
    blocked_.store(true);
    if (!mailbox_.needs_attention()) return Prepared::Block;
    // Not a loop here: siblings that never stop posting would hold this processor.
    blocked_.store(false);
    return Prepared::EndDispatch;
  }
  deadline_ = next_deadline();
  const bool early = deadline_ != ApicTimer::kNever && (timer_armed == 0 || deadline_ < timer_armed);
  // Once between two entries: a root that is too slow for a guest's timer would otherwise never let it run.
  ended_for_timer_ = early && !ended_for_timer_;
  if (ended_for_timer_) return Prepared::EndDispatch;
  if (early) changed_ = true;
  return Prepared::Enter;
}

}  // namespace bulkhead::hypervisor
