// SPDX-License-Identifier: Apache-2.0
//
// Entering the guest and understanding why it came back.
#include "hypervisor/svm/svm_vp.hpp"

#include "hypervisor/machine.hpp"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/processor/nmi_source.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/svm/svm.hpp"
#include "hypervisor/svm/world_switch.hpp"

namespace bulkhead::hypervisor::svm {
namespace {

constexpr std::uint32_t kInterceptsOfAll1 = kInterceptNmi | kInterceptInit | kInterceptCpuid | kInterceptInvlpga |
                                            kInterceptPorts | kInterceptMsrs | kInterceptShutdown;
constexpr std::uint32_t kInterceptsOfAll2 = kInterceptVmrun | kInterceptVmmcall | kInterceptVmload | kInterceptVmsave |
                                            kInterceptStgi | kInterceptClgi | kInterceptSkinit;
constexpr std::uint32_t kInterceptsOfChild1 =
    kInterceptIntr | kInterceptRdpmc | kInterceptInvd | kInterceptHalt | kInterceptFerrFreeze;
constexpr std::uint32_t kInterceptsOfChild2 =
    kInterceptWbinvd | kInterceptMonitor | kInterceptMwait | kInterceptMwaitArmed | kInterceptXsetbv | kInterceptRdpru;
// Debug and alignment exceptions can follow each other for ever inside one delivery (CVE-2015-5307, CVE-2015-8104), with
// no chance for an interrupt. So they always exit; nobody having asked for them, they go straight back into the child.
constexpr unsigned kDebugVector = 1;
constexpr unsigned kAlignmentVector = 17;
constexpr std::uint32_t kExceptionsOfChild = (1u << kDebugVector) | (1u << kAlignmentVector);

constexpr std::uint64_t kTrapFlag = 1u << 8;
constexpr std::uint64_t kSingleStep = 1u << 14;  // DR6.BS
constexpr std::uint16_t kPauseFilterCount = 3000;

constexpr std::uint64_t kNextGeneration = LogicalProcessor::kAddressSpaceGeneration;
constexpr std::uint32_t kFlushAll = 1;
constexpr std::uint32_t kFlushAsid = 3;

constexpr std::uint64_t kExternal = 0;
constexpr std::uint64_t kNonMaskable = 2;
constexpr std::uint64_t kException = 3;
constexpr std::uint64_t kSoftware = 4;

std::uint64_t encode(const Event& event) {
  std::uint64_t type = kExternal;
  if (event.type == Event::Type::Nmi) type = kNonMaskable;
  if (event.type == Event::Type::Exception) type = kException;
  if (event.type == Event::Type::SoftwareInterrupt) type = kSoftware;
  std::uint64_t value = event.vector | (type << 8) | kEventValid;
  if (event.has_error_code) value |= kEventErrorCodeValid | (std::uint64_t{event.error_code} << 32);
  return value;
}

/// The event whose delivery the exit interrupted. INT n, INT3 and INTO are left out: RIP is still at them.
Event decode(std::uint64_t value) {
  Event event;
  if (!(value & kEventValid)) return event;
  event.vector = static_cast<std::uint8_t>(value);
  switch ((value >> 8) & 7) {
    case kExternal: event.type = Event::Type::ExternalInterrupt; break;
    case kNonMaskable: event.type = Event::Type::Nmi; break;
    case kException:
      if (event.vector != 3 && event.vector != 4) event.type = Event::Type::Exception;
      break;
    default: break;
  }
  event.has_error_code = value & kEventErrorCodeValid;
  event.error_code = static_cast<std::uint32_t>(value >> 32);
  return event;
}

}  // namespace

SvmVp::SvmVp(Role role, Frame vmcb, Frame extended_state, const VpHardwareSettings& settings)
    : vmcb_(*reinterpret_cast<Vmcb*>(machine::frame_pointer(vmcb))),
      vmcb_address_(vmcb.address()),
      extended_state_(machine::frame_pointer(extended_state)),
      role_(role) {
  const bool child = role == Role::Child;
  vmcb_.intercepts1 = kInterceptsOfAll1 | (child ? kInterceptsOfChild1 : 0);
  vmcb_.intercepts2 = kInterceptsOfAll2 | (child ? kInterceptsOfChild2 : 0);
  if (child && features.pause_filter) {
    vmcb_.intercepts1 |= kInterceptPause;
    vmcb_.pause_count = kPauseFilterCount;
  }
  vmcb_.port_bitmap = child ? permissions.child_ports : permissions.root_ports;
  vmcb_.msr_bitmap = child ? permissions.child_msrs : permissions.root_msrs;
  vmcb_.virtual_interrupt = child ? kVirtualInterruptMasking : 0;
  vmcb_.asid = 1;
  vmcb_.nested_paging = 1;
  vmcb_.nested_cr3 = settings.second_level_table.address();
  vmcb_.tsc_offset = static_cast<std::uint64_t>(settings.tsc_offset);
  if (child) set_debug_intercepts(true);
  reset(false);
}

void SvmVp::set_tsc_offset(std::int64_t offset) { vmcb_.tsc_offset = static_cast<std::uint64_t>(offset); }

void SvmVp::set_exception_intercepts(std::uint32_t vectors) {
  exceptions_ = vectors;
  vmcb_.exceptions = role_ == Role::Child ? vectors | kExceptionsOfChild : 0;
}

void SvmVp::request_interrupt_window(unsigned priority) {
  interrupt_window_ = priority;
  vmcb_.virtual_interrupt &= ~(kVirtualInterruptRequest | kVirtualInterruptIgnorePriority |
                               (std::uint64_t{15} << kVirtualInterruptPriorityShift));
  if (priority == 0) {
    vmcb_.intercepts1 &= ~kInterceptVirtualInterrupt;
    return;
  }
  vmcb_.intercepts1 |= kInterceptVirtualInterrupt;
  vmcb_.virtual_interrupt |= kVirtualInterruptRequest;
  if (priority > 15) {
    vmcb_.virtual_interrupt |= kVirtualInterruptIgnorePriority;
  } else {
    vmcb_.virtual_interrupt |= std::uint64_t{priority} << kVirtualInterruptPriorityShift;
  }
}

const Exit& SvmVp::enter() {
  LogicalProcessor& processor = LogicalProcessor::current();
  do {
    prepare(processor);
    switch_world(general, vmcb_address_);
    take_state();
  } while (!understand_exit(processor));
  return exit_;
}

void SvmVp::prepare(LogicalProcessor& processor) {
  if (address_space_ != processor.address_space) [[unlikely]]
    take_address_space(processor);
  Vmcb& vmcb = vmcb_;
  vmcb.rax = general[0];
  vmcb.rsp = general[4];
  vmcb.rip = rip;
  vmcb.rflags = rflags;
  vmcb.interrupt_shadow = interrupt_shadow;
  vmcb.task_priority = cr8;
  vmcb.event_injection = 0;
  if (event) [[unlikely]]
    inject_event();
  if (stepping_over_iret_) [[unlikely]]
    vmcb.rflags |= kTrapFlag;
}

void SvmVp::inject_event() {
  vmcb_.event_injection = encode(event);
  if (event.type != Event::Type::Nmi) return;
  nmi_masked = true;
  vmcb_.intercepts1 |= kInterceptIret;
}

/// The root keeps identifier 1. A child takes a new one where its old one is worth nothing any more: on another
/// logical processor, in a new generation, or after its second-level table lost something.
void SvmVp::take_address_space(LogicalProcessor& processor) {
  if (role_ == Role::Root) {
    vmcb_.tlb_control = features.flush_by_asid ? kFlushAsid : kFlushAll;
  } else {
    if (processor.next_asid > features.last_asid) {
      processor.next_asid = 2;
      processor.address_space += kNextGeneration;
      vmcb_.tlb_control = kFlushAll;
    }
    vmcb_.asid = processor.next_asid++;
  }
  address_space_ = processor.address_space;
}

void SvmVp::take_state() {
  Vmcb& vmcb = vmcb_;
  general[0] = vmcb.rax;
  general[4] = vmcb.rsp;
  rip = vmcb.rip;
  rflags = vmcb.rflags;
  interrupt_shadow = vmcb.interrupt_shadow & 1;
  cr8 = vmcb.task_priority & 15;
  vmcb.tlb_control = 0;
  event.type = Event::Type::None;
  if (vmcb.exit_event & kEventValid) [[unlikely]]
    event = decode(vmcb.exit_event);
}

/// True: `exit_` tells it. False: it was our own affair, go on.
bool SvmVp::understand_exit(LogicalProcessor& processor) {
  exit_.next_rip = vmcb_.next_rip & features.next_rip;
  switch (vmcb_.exit_code) {
    case ExitCode::Cpuid: return finish(ExitReason::Cpuid);
    case ExitCode::Msr: return finish((vmcb_.exit_information1 & 1) ? ExitReason::WriteMsr : ExitReason::ReadMsr);
    case ExitCode::Vmmcall: return finish(ExitReason::Hypercall);
    case ExitCode::Port: understand_port(); return finish(ExitReason::Port);
    case ExitCode::NestedPageFault: understand_memory(); return finish(ExitReason::NestedPageFault);
    case ExitCode::Intr: return finish(ExitReason::PhysicalInterrupt);
    case ExitCode::Nmi: return exit_for_nmi(processor);
    case ExitCode::VirtualInterrupt: return finish(ExitReason::InterruptWindow);
    case ExitCode::Halt: return finish(ExitReason::Halt);
    case ExitCode::Pause: return finish(ExitReason::Pause);
    case ExitCode::Xsetbv: return finish(ExitReason::SetXcr);
    case ExitCode::Invd:
    case ExitCode::Wbinvd: return finish(ExitReason::Invalidate);
    case ExitCode::Monitor:
    case ExitCode::Mwait:
    case ExitCode::MwaitArmed: return finish(ExitReason::MonitorWait);
    case ExitCode::Init: return false;  // held by the processor, and sent by nobody: the root's are emulated
    case ExitCode::FerrFreeze:
    case ExitCode::Shutdown: return finish(ExitReason::Shutdown);
    case ExitCode::Invalid:
    case ExitCode::InvalidIn32Bits: return finish(ExitReason::InvalidState);
    case ExitCode::Iret:
      vmcb_.intercepts1 &= ~kInterceptIret;
      stepping_over_iret_ = true;
      vmcb_.exceptions |= 1u << kDebugVector;
      return false;
    default: break;
  }
  if (vmcb_.exit_code >= ExitCode::Exception0 && vmcb_.exit_code <= ExitCode::Exception31) {
    return exit_for_exception(static_cast<unsigned>(vmcb_.exit_code) - static_cast<unsigned>(ExitCode::Exception0));
  }
  if (vmcb_.exit_code >= ExitCode::ReadDr0 && vmcb_.exit_code <= ExitCode::WriteDr15) {
    load_debug_registers();
    return false;
  }
  return finish(ExitReason::UndefinedInstruction);
}

bool SvmVp::exit_for_exception(unsigned vector) {
  if (vector == kDebugVector && stepping_over_iret_) {
    // The IRET is done, and RFLAGS is what it took from the stack. Now the next NMI may come.
    stepping_over_iret_ = false;
    nmi_masked = false;
    set_exception_intercepts(exceptions_);
    vmcb_.dr6 &= ~kSingleStep;
    if (!nmi_window_) return false;
    nmi_window_ = false;
    return finish(ExitReason::NmiWindow);
  }
  exit_.exception = {static_cast<std::uint8_t>(vector), false, static_cast<std::uint32_t>(vmcb_.exit_information1),
                     vmcb_.exit_information2};
  exit_.exception.has_error_code = vector == 8 || (vector >= 10 && vector <= 14) || vector == kAlignmentVector ||
                                   vector == 21 || vector == 29 || vector == 30;
  if (exceptions_ & (1u << vector)) return finish(ExitReason::Exception);
  event = {Event::Type::Exception, static_cast<std::uint8_t>(vector), exit_.exception.has_error_code,
           exit_.exception.error_code};
  return false;
}

bool SvmVp::exit_for_nmi(LogicalProcessor& processor) {
  // Interrupts are masked while the NMI is taken, and after that as load() left them.
  privileged::disable_interrupts();
  const Signals::Taken signals = processors::take_nmi(processor);
  if (role_ == Role::Child) privileged::enable_interrupts();
  if (!signals.explains_nmi || (signals.bits & kSignalNmi) || nmi_source::is_active()) processor.root_nmi = true;
  if (role_ == Role::Child && (processor.root_nmi || (signals.bits & kSignalStartup))) {
    return finish(ExitReason::PhysicalInterrupt);
  }
  return finish(ExitReason::Kick);
}

void SvmVp::log_exit() const {
  using console::Field;
  console::line("exit", Field{"code", static_cast<std::uint64_t>(vmcb_.exit_code)},
                Field{"info1", vmcb_.exit_information1}, Field{"info2", vmcb_.exit_information2},
                Field{"event", vmcb_.exit_event}, Field{"injected", vmcb_.event_injection});
}

/// APM volume 2, section 15.10.2.
void SvmVp::understand_port() {
  const std::uint64_t information = vmcb_.exit_information1;
  exit_.next_rip = vmcb_.exit_information2;
  exit_.port = {static_cast<std::uint16_t>(information >> 16), static_cast<std::uint8_t>((information >> 4) & 7),
                !(information & 1), (information & 4) != 0, (information & 8) != 0};
}

/// APM volume 2, section 15.25.6.
void SvmVp::understand_memory() {
  const std::uint64_t information = vmcb_.exit_information1;
  MemoryAccess& access = exit_.memory;
  access.gpa = vmcb_.exit_information2;
  access.write = information & 2;
  access.fetch = information & 16;
  access.during_walk = (information >> 33) & 1;
  access.instruction_byte_count = features.decode_assists ? vmcb_.instruction_byte_count & 15 : 0;
  for (unsigned index = 0; index < access.instruction_byte_count; ++index) {
    access.instruction_bytes[index] = vmcb_.instruction_bytes[index];
  }
}

}  // namespace bulkhead::hypervisor::svm
