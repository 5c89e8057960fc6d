// SPDX-License-Identifier: Apache-2.0
//
// A VP's registers by TLFS name. Those that the processor's extension holds are passed on to it.
#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/guest_interface.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

using abi::RegisterName;
using abi::RegisterValue;

constexpr std::uint64_t kRflagsWritable = 0x3f7fd5;
constexpr std::uint64_t kRflagsAlwaysSet = 2;
constexpr std::uint64_t kVirtual8086 = 1 << 17;

bool is_canonical(std::uint64_t address, unsigned bits) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << (64 - bits)) >> (64 - bits)) == address;
}

/// The number of the MSR that a synthetic register is; 0: it is none of these.
std::uint32_t synthetic_msr(RegisterName name) {
  struct Range {
    RegisterName first, last;
    std::uint32_t msr;
  };
  constexpr Range kRanges[] = {{RegisterName::Sint0, RegisterName::Sint15, abi::kMsrSint0},
                               {RegisterName::Scontrol, RegisterName::Eom, abi::kMsrScontrol},
                               {RegisterName::Stimer0Config, RegisterName::Stimer3Count, kFirstTimerMsr},
                               {RegisterName::CrashP0, RegisterName::CrashP4, kFirstCrashMsr}};
  for (const Range& range : kRanges) {
    if (name < range.first || name > range.last) continue;
    return range.msr + (static_cast<std::uint32_t>(name) - static_cast<std::uint32_t>(range.first));
  }
  return 0;
}

}  // namespace

std::uint64_t VirtualProcessor::pending_interruption() const {
  const Event& event = hardware_.event;
  abi::InterruptionType type{};
  switch (event.type) {
    case Event::Type::None: return 0;
    case Event::Type::ExternalInterrupt: type = abi::InterruptionType::External; break;
    case Event::Type::Nmi: type = abi::InterruptionType::Nmi; break;
    case Event::Type::Exception: type = abi::InterruptionType::Exception; break;
    case Event::Type::SoftwareInterrupt: type = abi::InterruptionType::SoftwareInterrupt; break;
  }
  return 1 | std::uint64_t(type) << 1 | std::uint64_t{event.has_error_code} << 4 | std::uint64_t{event.vector} << 16 |
         std::uint64_t{event.error_code} << 32;
}

hv_status VirtualProcessor::set_pending_interruption(std::uint64_t value) {
  Event event;
  if (value & 1) {
    const auto vector = static_cast<std::uint16_t>(value >> 16);
    switch (static_cast<abi::InterruptionType>(value >> 1 & 7)) {
      case abi::InterruptionType::External: event.type = Event::Type::ExternalInterrupt; break;
      case abi::InterruptionType::Nmi: event.type = Event::Type::Nmi; break;
      case abi::InterruptionType::Exception:
        if (vector > 31 || vector == 2) return HV_STATUS_INVALID_REGISTER_VALUE;
        event.type = Event::Type::Exception;
        break;
      default: return HV_STATUS_INVALID_REGISTER_VALUE;
    }
    if (vector > 0xff) return HV_STATUS_INVALID_REGISTER_VALUE;
    event.vector = event.type == Event::Type::Nmi ? 2 : static_cast<std::uint8_t>(vector);
    event.has_error_code = event.type == Event::Type::Exception && (value >> 4 & 1);
    event.error_code = event.has_error_code ? static_cast<std::uint32_t>(value >> 32) : 0;
  }
  hardware_.event = event;
  return HV_STATUS_SUCCESS;
}

std::uint64_t VirtualProcessor::interrupt_state() const {
  return (hardware_.interrupt_shadow ? abi::kInterruptShadow : 0) | (hardware_.nmi_masked ? abi::kNmiMasked : 0);
}

std::uint64_t VirtualProcessor::now() const { return partition_.configuration().reference_time.moment(machine::tsc()); }

std::expected<RegisterValue, hv_status> VirtualProcessor::get_register(RegisterName name) const {
  if (name >= RegisterName::Rax && name <= RegisterName::R15) {
    return numeric(hardware_.general[static_cast<unsigned>(name) - static_cast<unsigned>(RegisterName::Rax)]);
  }
  switch (name) {
    case RegisterName::Rip: return numeric(hardware_.rip);
    case RegisterName::Rflags: return numeric(hardware_.rflags);
    case RegisterName::Cr8: return numeric(hardware_.cr8);
    case RegisterName::ExplicitSuspend: return numeric(explicit_suspend_);
    case RegisterName::InterceptSuspend: return numeric(intercept_suspend_);
    case RegisterName::InternalActivityState: return numeric(static_cast<std::uint64_t>(activity_));
    case RegisterName::PendingInterruption: return numeric(pending_interruption());
    case RegisterName::InterruptState: return numeric(interrupt_state());
    case RegisterName::DeliverabilityNotifications:
      return numeric(notifications_ | std::uint64_t{waiting_sints_.load()} << abi::kNotifySintsShift);
    case RegisterName::Tsc: return numeric(now() + static_cast<std::uint64_t>(tsc_offset()));
    case RegisterName::ApicBase: return numeric(apic_.base());
    case RegisterName::InitialApicId: return numeric(index_);
    case RegisterName::TscDeadline: return numeric(tsc_deadline());
    case RegisterName::ApicTaskPriority:
      // Of the two that the guest can write, CR8 is the later one where they differ.
      return numeric(apic_.task_priority() >> 4 == hardware_.cr8 ? apic_.task_priority() : hardware_.cr8 << 4);
    case RegisterName::GuestOsId: return numeric(partition_.guest_interface().os_id.load());
    case RegisterName::HypercallPage: return numeric(partition_.guest_interface().hypercall_page.load());
    case RegisterName::ReferenceTsc: return numeric(partition_.guest_interface().reference_tsc.load());
    case RegisterName::VpIndex: return numeric(index_);
    case RegisterName::TimeReferenceCount: return numeric(partition_.configuration().reference_time.at(machine::tsc()));
    case RegisterName::VpAssistPage: return numeric(vp_assist_page_);
    default: break;
  }
  if (const std::uint32_t msr = synthetic_msr(name)) return numeric(synthetic_register(msr));
  return hardware_.get_register(name);
}

hv_status VirtualProcessor::set_instruction_pointer(std::uint64_t value) {
  if (!is_canonical(value, 48) && !((hardware_.mode().cr4 & kCr4FiveLevels) && is_canonical(value, 57))) {
    return HV_STATUS_INVALID_REGISTER_VALUE;
  }
  hardware_.rip = value;
  return HV_STATUS_SUCCESS;
}

hv_status VirtualProcessor::set_register(RegisterName name, const RegisterValue& value) {
  changed_ = true;
  if (name >= RegisterName::Rax && name <= RegisterName::R15) {
    hardware_.general[static_cast<unsigned>(name) - static_cast<unsigned>(RegisterName::Rax)] = value.number;
    return HV_STATUS_SUCCESS;
  }
  const auto as_msr = [](MsrResult result) {
    return result == MsrResult::Done ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_REGISTER_VALUE;
  };
  const std::uint64_t content = value.number;
  switch (name) {
    case RegisterName::Rip: return set_instruction_pointer(content);
    case RegisterName::Rflags:
      if ((content & ~(kRflagsWritable | kRflagsAlwaysSet)) ||
          ((content & kVirtual8086) && (hardware_.mode().efer & kEferLongModeActive))) {
        return HV_STATUS_INVALID_REGISTER_VALUE;
      }
      hardware_.rflags = content | kRflagsAlwaysSet;
      return HV_STATUS_SUCCESS;
    case RegisterName::Cr8:
      if (content > 15) return HV_STATUS_INVALID_REGISTER_VALUE;
      hardware_.cr8 = static_cast<std::uint8_t>(content);
      return HV_STATUS_SUCCESS;
    case RegisterName::ExplicitSuspend: explicit_suspend_ = content & 1; return HV_STATUS_SUCCESS;
    case RegisterName::InterceptSuspend: intercept_suspend_ = content & 1; return HV_STATUS_SUCCESS;
    case RegisterName::InternalActivityState:
      if (content > 4 || content == 3) return HV_STATUS_INVALID_REGISTER_VALUE;
      activity_ = static_cast<Activity>(content);
      return HV_STATUS_SUCCESS;
    case RegisterName::PendingInterruption: return set_pending_interruption(content);
    case RegisterName::InterruptState:
      if (content & ~(abi::kInterruptShadow | abi::kNmiMasked)) return HV_STATUS_INVALID_REGISTER_VALUE;
      hardware_.interrupt_shadow = content & abi::kInterruptShadow;
      hardware_.mask_nmi((content & abi::kNmiMasked) != 0);
      return HV_STATUS_SUCCESS;
    case RegisterName::DeliverabilityNotifications:
      if (content << 16 >> 16 & ~(abi::kNotifyNmiDeliverable | abi::kNotifyInterruptDeliverable))
        return HV_STATUS_INVALID_REGISTER_VALUE;
      notifications_ = content & (abi::kNotifyNmiDeliverable | abi::kNotifyInterruptDeliverable);
      // Only added to: what a message waits for is not the register's to forget.
      waiting_sints_.fetch_or(static_cast<std::uint16_t>(content >> abi::kNotifySintsShift));
      return HV_STATUS_SUCCESS;
    case RegisterName::Tsc: {
      const std::uint64_t time = now();
      set_tsc_offset(static_cast<std::int64_t>(content - time), time);
      return HV_STATUS_SUCCESS;
    }
    case RegisterName::ApicTaskPriority:
      if (content > 0xff) return HV_STATUS_INVALID_REGISTER_VALUE;
      apic_.set_task_priority(static_cast<std::uint8_t>(content));
      hardware_.cr8 = static_cast<std::uint8_t>(content >> 4);
      return HV_STATUS_SUCCESS;
    case RegisterName::ApicBase: return as_msr(apply(apic_.set_base(content)));
    case RegisterName::TscDeadline: set_tsc_deadline(content, now()); return HV_STATUS_SUCCESS;
    case RegisterName::GuestOsId: return as_msr(write_synthetic_msr(0x40000000, content));
    case RegisterName::HypercallPage: return as_msr(write_synthetic_msr(0x40000001, content));
    case RegisterName::ReferenceTsc: return as_msr(write_synthetic_msr(0x40000021, content));
    case RegisterName::InitialApicId:
    case RegisterName::VpIndex: return content == index_ ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_REGISTER_VALUE;
    case RegisterName::TimeReferenceCount: return HV_STATUS_ACCESS_DENIED;
    case RegisterName::VpAssistPage: {
      auto guarded = partition_.lock();  // for the page that it may leave
      return as_msr(write_synthetic_msr(0x40000073, content));
    }
    default: break;
  }
  if (const std::uint32_t msr = synthetic_msr(name)) {
    return as_msr(Synic::is_register(msr) ? write_synic(msr, content, false) : write_synthetic_msr(msr, content));
  }
  return hardware_.set_register(name, value);
}

}  // namespace bulkhead::hypervisor
