// SPDX-License-Identifier: Apache-2.0
//
// A child's model-specific registers. Order of the answers: what the hypervisor implements, then the parent if it installed an
// intercept, then #GP.
#include <cstring>

#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/finish_instruction.hpp"
#include "hypervisor/vp/guest_interface.hpp"

namespace bulkhead::hypervisor {
namespace {

using abi::RegisterName;

enum class Msr : std::uint32_t {
  Tsc = 0x10,
  ApicBase = 0x1b,
  MicrocodeRevision = 0x8b,
  SysenterCs = 0x174,
  SysenterEsp = 0x175,
  SysenterEip = 0x176,
  MiscEnable = 0x1a0,
  DebugControl = 0x1d9,
  Pat = 0x277,
  TscDeadline = 0x6e0,
  Efer = 0xc0000080,
  Star = 0xc0000081,
  Lstar = 0xc0000082,
  Cstar = 0xc0000083,
  Sfmask = 0xc0000084,
  FsBase = 0xc0000100,
  GsBase = 0xc0000101,
  KernelGsBase = 0xc0000102,
  TscAux = 0xc0000103,
  SystemConfiguration = 0xc0010010,
  HardwareConfiguration = 0xc0010015,
  NorthbridgeConfiguration = 0xc001001f,
  InterruptPending = 0xc0010055,
  MmioConfiguration = 0xc0010058,
  DecodeConfiguration = 0xc0011029,
};

constexpr std::uint32_t kFirstX2Apic = 0x800, kLastX2Apic = 0x8ff;
constexpr std::uint32_t kFirstSynthetic = 0x40000000, kLastSynthetic = 0x400001ff;

/// Registers that the processor's extension holds under a TLFS name.
std::optional<RegisterName> held_by_hardware(Msr msr) {
  switch (msr) {
    case Msr::SysenterCs: return RegisterName::SysenterCs;
    case Msr::SysenterEsp: return RegisterName::SysenterEsp;
    case Msr::SysenterEip: return RegisterName::SysenterEip;
    case Msr::Pat: return RegisterName::Pat;
    case Msr::Efer: return RegisterName::Efer;
    case Msr::Star: return RegisterName::Star;
    case Msr::Lstar: return RegisterName::Lstar;
    case Msr::Cstar: return RegisterName::Cstar;
    case Msr::Sfmask: return RegisterName::Sfmask;
    case Msr::KernelGsBase: return RegisterName::KernelGsBase;
    case Msr::TscAux: return RegisterName::TscAux;
    default: return std::nullopt;
  }
}

/// Registers that guests look at but need nothing of: they read as this, and what is written is dropped.
std::optional<std::uint64_t> constant(Msr msr) {
  switch (msr) {
    case Msr::HardwareConfiguration: return 1 << 24;  // the TSC runs at the P0 frequency
    case Msr::DecodeConfiguration: return 1 << 1;     // LFENCE serialises
    case Msr::MicrocodeRevision:
    case Msr::MiscEnable:
    case Msr::DebugControl:
    case Msr::SystemConfiguration:
    case Msr::NorthbridgeConfiguration:
    case Msr::InterruptPending:
    case Msr::MmioConfiguration: return 0;
    default: return std::nullopt;
  }
}

constexpr bool is_crash_parameter(std::uint32_t msr) { return msr >= kFirstCrashMsr && msr < kFirstCrashMsr + 5; }
constexpr bool is_timer(std::uint32_t msr) { return msr >= kFirstTimerMsr && msr <= kLastTimerMsr; }
constexpr bool is_kept(std::uint32_t msr) {
  return Synic::is_register(msr) || is_timer(msr) || is_crash_parameter(msr);
}

constexpr std::uint8_t kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
constexpr std::uint8_t kVmmcallReturn[] = {0x0f, 0x01, 0xd9, 0xc3};
constexpr std::uint8_t kVmcallReturn[] = {0x0f, 0x01, 0xc1, 0xc3};

}  // namespace

/// What a change of the local APIC leads to beyond it.
VirtualProcessor::MsrResult VirtualProcessor::apply(const LocalApic::Outcome& outcome) {
  if (outcome.fault) return MsrResult::Fault;
  hardware_.cr8 = apic_.task_priority() >> 4;
  apic_changed();
  if (outcome.send) wake_set_ |= partition_.deliver(*outcome.send, index_);
  if (outcome.level_eoi && partition_.configuration().intercepts.wants_apic_eoi()) {
    ended_level_interrupt_ = outcome.level_eoi;
  }
  return MsrResult::Done;
}

VirtualProcessor::MsrResult VirtualProcessor::read_msr(std::uint32_t msr, std::uint64_t& value) {
  if (msr >= kFirstX2Apic && msr <= kLastX2Apic) {
    synchronize_apic();
    const std::optional<std::uint64_t> found = apic_.read_x2(msr - kFirstX2Apic, machine::tsc());
    if (!found) return MsrResult::Fault;
    value = *found;
    return MsrResult::Done;
  }
  if (msr >= kFirstSynthetic && msr <= kLastSynthetic) return read_synthetic_msr(msr, value);
  const auto name = static_cast<Msr>(msr);
  if (const auto held = held_by_hardware(name)) {
    const auto found = hardware_.get_register(*held);
    if (!found) return MsrResult::Unhandled;
    value = found->number;
    return MsrResult::Done;
  }
  switch (name) {
    case Msr::Tsc: value = machine::tsc() + static_cast<std::uint64_t>(tsc_offset()); return MsrResult::Done;
    case Msr::ApicBase: value = apic_.base(); return MsrResult::Done;
    case Msr::TscDeadline: value = tsc_deadline(); return MsrResult::Done;
    case Msr::FsBase:
    case Msr::GsBase: {
      const auto segment = hardware_.get_register(name == Msr::FsBase ? RegisterName::Fs : RegisterName::Gs);
      if (!segment) return MsrResult::Unhandled;
      value = segment->segment.base;
      return MsrResult::Done;
    }
    default: break;
  }
  const std::optional<std::uint64_t> fixed = constant(name);
  value = fixed.value_or(0);
  return fixed ? MsrResult::Done : MsrResult::Unhandled;
}

VirtualProcessor::MsrResult VirtualProcessor::read_synthetic_msr(std::uint32_t msr, std::uint64_t& value) {
  GuestInterface& interface = partition_.guest_interface();
  switch (static_cast<SyntheticMsr>(msr)) {
    case SyntheticMsr::GuestOsId: value = interface.os_id.load(); return MsrResult::Done;
    case SyntheticMsr::Hypercall: value = interface.hypercall_page.load(); return MsrResult::Done;
    case SyntheticMsr::VpIndex: value = index_; return MsrResult::Done;
    case SyntheticMsr::TimeReferenceCount:
      value = partition_.configuration().reference_time.at(machine::tsc());
      return MsrResult::Done;
    case SyntheticMsr::ReferenceTsc: value = interface.reference_tsc.load(); return MsrResult::Done;
    case SyntheticMsr::TscFrequency:
    // The APIC timer counts at the same rate: see ApicTimer.
    case SyntheticMsr::ApicFrequency: value = machine::tsc_frequency(); return MsrResult::Done;
    case SyntheticMsr::VpAssistPage: value = vp_assist_page_; return MsrResult::Done;
    case SyntheticMsr::Reset:
      value = 0;
      return offers_reset(partition_.configuration()) ? MsrResult::Done : MsrResult::Unhandled;
    case SyntheticMsr::InterruptCommand:
    case SyntheticMsr::TaskPriority:
      if (!apic_.is_xapic() && !apic_.is_x2apic()) return MsrResult::Fault;
      synchronize_apic();
      value = msr == static_cast<std::uint32_t>(SyntheticMsr::TaskPriority) ? apic_.task_priority() : apic_.command();
      return MsrResult::Done;
    case SyntheticMsr::GuestIdle:
      value = 0;
      activity_ = Activity::Idle;
      changed_ = true;
      return MsrResult::Done;
    case SyntheticMsr::CrashControl: value = kCrashNotify | kCrashMessage; return MsrResult::Done;
    case SyntheticMsr::EndOfInterrupt: return MsrResult::Fault;  // write-only
    default: break;
  }
  if (!is_kept(msr)) return MsrResult::Unhandled;
  value = synthetic_register(msr);
  return MsrResult::Done;
}

/// One of the registers that only keep what is written to them, as far as reading goes.
std::uint64_t VirtualProcessor::synthetic_register(std::uint32_t msr) const {
  if (is_crash_parameter(msr)) return crash_parameters_[msr - kFirstCrashMsr];
  if (Synic::is_register(msr)) return synic_.read(msr);
  const unsigned timer = (msr - kFirstTimerMsr) / 2;
  return msr % 2 ? timers_.count(timer) : timers_.configuration(timer);
}

std::uint64_t VirtualProcessor::tsc_deadline() const {
  const ApicTimer& timer = apic_.timer();
  if (timer.mode() != ApicTimerMode::TscDeadline || timer.deadline() == ApicTimer::kNever) return 0;
  return timer.deadline() + static_cast<std::uint64_t>(tsc_offset());
}

/// `value` in the guest's time; it may lie before the root's zero.
void VirtualProcessor::set_tsc_deadline(std::uint64_t value, std::uint64_t now) {
  std::uint64_t deadline = value - static_cast<std::uint64_t>(tsc_offset());
  if (value == 0)
    deadline = ApicTimer::kNever;
  else if (value <= now + static_cast<std::uint64_t>(tsc_offset()))
    deadline = now;
  apic_.timer().set_tsc_deadline(deadline);
  changed_ = true;
}

VirtualProcessor::MsrResult VirtualProcessor::write_through(RegisterName name, std::uint64_t value) {
  abi::RegisterValue content = numeric(value);
  if (name == RegisterName::Fs || name == RegisterName::Gs) {
    content = hardware_.get_register(name).value_or(abi::RegisterValue{});
    content.segment.base = value;
  }
  switch (hardware_.set_register(name, content)) {
    case HV_STATUS_SUCCESS: return MsrResult::Done;
    case HV_STATUS_UNKNOWN_REGISTER_NAME: return MsrResult::Unhandled;
    default: return MsrResult::Fault;
  }
}

VirtualProcessor::MsrResult VirtualProcessor::write_efer(std::uint64_t value) {
  constexpr std::uint64_t kLongModeEnable = 1 << 8;
  const ExecutionMode mode = hardware_.mode();
  if ((mode.cr0 & kCr0Paging) && ((value ^ mode.efer) & kLongModeEnable)) return MsrResult::Fault;
  // LMA follows LME and CR0.PG; software does not write it.
  return write_through(RegisterName::Efer, (value & ~kEferLongModeActive) | (mode.efer & kEferLongModeActive));
}

VirtualProcessor::MsrResult VirtualProcessor::write_msr(std::uint32_t msr, std::uint64_t value) {
  if (msr >= kFirstX2Apic && msr <= kLastX2Apic) {
    synchronize_apic();
    return apply(apic_.write_x2(msr - kFirstX2Apic, value, machine::tsc()));
  }
  if (msr >= kFirstSynthetic && msr <= kLastSynthetic) return write_synthetic_msr(msr, value);
  const auto name = static_cast<Msr>(msr);
  if (name == Msr::Efer) return write_efer(value);
  if (const auto held = held_by_hardware(name)) return write_through(*held, value);
  switch (name) {
    case Msr::Tsc: {
      const std::uint64_t now = machine::tsc();
      set_tsc_offset(static_cast<std::int64_t>(value - now), now);
      return MsrResult::Done;
    }
    case Msr::ApicBase: synchronize_apic(); return apply(apic_.set_base(value));
    case Msr::TscDeadline: set_tsc_deadline(value, machine::tsc()); return MsrResult::Done;
    case Msr::FsBase: return write_through(RegisterName::Fs, value);
    case Msr::GsBase: return write_through(RegisterName::Gs, value);
    default: return constant(name) ? MsrResult::Done : MsrResult::Unhandled;
  }
}

/// A timer that was set in the guest's time fires at the same guest time.
void VirtualProcessor::set_tsc_offset(std::int64_t offset, std::uint64_t now) {
  const std::uint64_t deadline = tsc_deadline();
  tsc_offset_ = offset;
  hardware_.set_tsc_offset(offset);
  if (deadline) set_tsc_deadline(deadline, now);
  partition_.refresh_reference_tsc(*partition_.lock());
}

VirtualProcessor::MsrResult VirtualProcessor::write_synthetic_msr(std::uint32_t msr, std::uint64_t value) {
  GuestInterface& interface = partition_.guest_interface();
  switch (static_cast<SyntheticMsr>(msr)) {
    case SyntheticMsr::GuestOsId:
      interface.os_id.store(value);
      if (value == 0) interface.hypercall_page.store(0);
      return MsrResult::Done;
    case SyntheticMsr::Hypercall: return write_hypercall_page(value);
    case SyntheticMsr::VpAssistPage:
      withdraw_eoi_assist();
      vp_assist_page_ = value;
      return MsrResult::Done;
    case SyntheticMsr::ReferenceTsc:
      interface.reference_tsc.store(value);
      partition_.refresh_reference_tsc(*partition_.lock());
      return MsrResult::Done;
    case SyntheticMsr::EndOfInterrupt:
    case SyntheticMsr::InterruptCommand:
    case SyntheticMsr::TaskPriority: return write_apic_msr(static_cast<SyntheticMsr>(msr), value);
    // Both are told to the parent, which has asked for that: as an MSR that is not handled here.
    case SyntheticMsr::Reset:
      return (value & 1) || !offers_reset(partition_.configuration()) ? MsrResult::Unhandled : MsrResult::Done;
    case SyntheticMsr::CrashControl: {
      const bool told = partition_.configuration().intercepts.wants_msr(msr, HV_INTERCEPT_ACCESS_WRITE);
      return (value & kCrashNotify) && told ? MsrResult::Unhandled : MsrResult::Done;
    }
    case SyntheticMsr::VpIndex:
    case SyntheticMsr::TimeReferenceCount:
    case SyntheticMsr::TscFrequency:
    case SyntheticMsr::ApicFrequency:
    case SyntheticMsr::GuestIdle: return MsrResult::Fault;  // read-only
    default: break;
  }
  if (is_crash_parameter(msr)) {
    crash_parameters_[msr - kFirstCrashMsr] = value;
    return MsrResult::Done;
  }
  if (is_timer(msr)) return write_synthetic_timer(msr, value);
  return Synic::is_register(msr) ? write_synic(msr, value) : MsrResult::Unhandled;
}

/// TLFS, "Local APIC MSR Accesses": in either mode of the APIC.
VirtualProcessor::MsrResult VirtualProcessor::write_apic_msr(SyntheticMsr msr, std::uint64_t value) {
  if (!apic_.is_xapic() && !apic_.is_x2apic()) return MsrResult::Fault;
  synchronize_apic();
  if (msr == SyntheticMsr::InterruptCommand) return apply(apic_.set_command(value));
  const bool eoi = msr == SyntheticMsr::EndOfInterrupt;
  if (value >> (eoi ? 32 : 8)) return MsrResult::Fault;
  const auto target = eoi ? LocalApic::Register::EndOfInterrupt : LocalApic::Register::TaskPriority;
  return apply(apic_.write(static_cast<std::uint32_t>(target) << 4, static_cast<std::uint32_t>(value), machine::tsc()));
}

/// TLFS, "Establishing the Hypercall Interface". The page is written into the guest's own memory.
VirtualProcessor::MsrResult VirtualProcessor::write_hypercall_page(std::uint64_t value) {
  constexpr std::uint64_t kEnable = 1, kLocked = 2;
  GuestInterface& interface = partition_.guest_interface();
  const std::uint64_t old = interface.hypercall_page.load();
  if (old & kLocked) return MsrResult::Done;
  if (interface.os_id.load() == 0) value &= ~kEnable;
  if (value & kEnable) {
    std::byte* page = partition_.page_to_write(GuestPage::at(value));
    if (!page) return MsrResult::Fault;
    const bool amd = machine::host_cpuid(0x80000001, 0).ecx & 1 << 2;
    std::memcpy(page, kEndbr64, sizeof kEndbr64);
    std::memcpy(page + sizeof kEndbr64, amd ? kVmmcallReturn : kVmcallReturn, sizeof kVmmcallReturn);
  }
  interface.hypercall_page.store(value);
  return MsrResult::Done;
}

VirtualProcessor::Next VirtualProcessor::handle_read_msr(const Exit& exit) {
  std::uint64_t value = 0;
  const auto msr = static_cast<std::uint32_t>(hardware_.general[1]);
  switch (read_msr(msr, value)) {
    case MsrResult::Done: break;
    case MsrResult::Fault: return general_protection();
    case MsrResult::Unhandled:
      if (partition_.configuration().intercepts.wants_msr(msr, HV_INTERCEPT_ACCESS_READ)) {
        return intercept_msr(exit, abi::InterceptAccess::Read);
      }
      return general_protection();
  }
  if (!finish_instruction(exit, Operation::ReadMsr)) return Next::Prepare;
  hardware_.general[0] = static_cast<std::uint32_t>(value);
  hardware_.general[2] = value >> 32;
  return Next::Enter;
}

VirtualProcessor::Next VirtualProcessor::handle_write_msr(const Exit& exit) {
  const auto msr = static_cast<std::uint32_t>(hardware_.general[1]);
  const std::uint64_t value = hardware_.general[2] << 32 | static_cast<std::uint32_t>(hardware_.general[0]);
  // What can go wrong with the instruction itself goes wrong before the write has an effect.
  const std::uint64_t rip = hardware_.rip;
  const Event event = hardware_.event;
  if (!finish_instruction(exit, Operation::WriteMsr)) return Next::Prepare;
  const MsrResult result = write_msr(msr, value);
  if (result == MsrResult::Done) return changed_ || wake_set_ ? Next::Prepare : Next::Enter;
  hardware_.rip = rip;
  hardware_.event = event;
  if (result == MsrResult::Unhandled &&
      partition_.configuration().intercepts.wants_msr(msr, HV_INTERCEPT_ACCESS_WRITE)) {
    return intercept_msr(exit, abi::InterceptAccess::Write);
  }
  return general_protection();
}

}  // namespace bulkhead::hypervisor
