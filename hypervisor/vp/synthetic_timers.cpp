// SPDX-License-Identifier: Apache-2.0
//
// A VP's synthetic timers: from the partition's reference time to moments of the root's time stamp counter, and from there to
// interrupts and messages.
#include <cstring>

#include "hypervisor/machine.hpp"
#include "hypervisor/vp/guest_interface.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

/// TLFS, "Timer Expiration Message".
struct TimerMessage {
  std::uint32_t timer;
  std::uint32_t reserved;
  std::uint64_t expiration;
  std::uint64_t delivery;
};

}  // namespace

VirtualProcessor::MsrResult VirtualProcessor::write_synthetic_timer(std::uint32_t msr, std::uint64_t value) {
  const std::uint64_t now = partition_.configuration().reference_time.at(machine::tsc());
  const unsigned number = msr - kFirstTimerMsr;
  if (number % 2)
    timers_.set_count(number / 2, value, now);
  else
    timers_.set_configuration(number / 2, value, now);
  refresh_timer_deadline();
  changed_ = true;
  return MsrResult::Done;
}

void VirtualProcessor::refresh_timer_deadline() {
  const ReferenceTime& time = partition_.configuration().reference_time;
  time_generation_ = time.generation();
  timer_messages_wait_ = timers_.has_undelivered();
  const std::uint64_t next = timers_.deadline();
  timer_deadline_ = next == SyntheticTimers::kNever ? ApicTimer::kNever : time.tsc_of(next);
}

void VirtualProcessor::expire_timers(std::uint64_t tsc) {
  const std::uint64_t now = partition_.configuration().reference_time.at(tsc);
  timers_.expire(now, [&](const SyntheticTimers::Expiration& expiration) {
    std::optional<std::uint8_t> vector = expiration.target;
    if (!expiration.direct) {
      abi::SynicMessage message{};
      message.type = abi::SynicMessageType::TimerExpired;
      const TimerMessage payload{expiration.timer, 0, expiration.time, now};
      message.payload_size = sizeof payload;
      std::memcpy(message.payload, &payload, sizeof payload);
      auto guarded = partition_.lock();
      const SynicResult result = post_message(expiration.target, message);
      if (result.status != HV_STATUS_SUCCESS) return false;
      vector = result.vector;
    }
    if (vector && apic_.address().accepting) apic_.accept(*vector, false);
    return true;
  });
  refresh_timer_deadline();
}

}  // namespace bulkhead::hypervisor
