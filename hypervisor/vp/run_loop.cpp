// SPDX-License-Identifier: Apache-2.0
//
// Dispatching a VP, and what becomes of each kind of exit.
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {
namespace {

/// After so many exits in a row the dispatch ends, whatever they are. A child that exits before it executes anything, over and over,
/// never gets to where a physical interrupt would be noticed.
constexpr unsigned kExitsPerDispatch = 2000;

std::uint64_t timer_output(std::uint64_t deadline) { return deadline == ApicTimer::kNever ? 0 : deadline; }

}  // namespace

VirtualProcessor::VirtualProcessor(Partition& partition, std::uint32_t index, VpHardware& hardware, Frame frame,
                                   const HardwareFrames& hardware_frames)
    : partition_(partition),
      hardware_(hardware),
      index_(index),
      frame_(frame),
      hardware_frames_(hardware_frames),
      activity_(index == 0 ? Activity::Running : Activity::WaitForSipi),
      tsc_offset_(partition.configuration().tsc_offset) {
  const bool x2apic = partition.configuration().creation_flags & HV_PARTITION_CREATION_X2APIC_CAPABLE;
  // 20 microseconds: often enough for any guest's clock, seldom enough for it to get something done in between.
  apic_.reset(index, index == 0, x2apic, machine::tsc_frequency() / 50'000);
  apic_changed();
}

hv_dispatch_vp_output VirtualProcessor::dispatch(const DispatchSettings& settings) {
  const auto suspended = [this](hv_dispatch_event event) -> hv_dispatch_vp_output {
    return {HV_DISPATCH_STATE_READY, static_cast<__u32>(event), 0, timer_output(next_deadline())};
  };
  if (explicit_suspend_) return suspended(HV_DISPATCH_EVENT_SUSPEND);
  if (settings.clear_intercept_suspend) intercept_suspend_ = false;
  if (intercept_suspend_) return suspended(HV_DISPATCH_EVENT_INTERCEPT);
  if (take_register_page() != HV_STATUS_SUCCESS) {
    intercept_plain(abi::MessageType::InvalidVpRegister);
    publish_registers();
    return suspended(HV_DISPATCH_EVENT_INTERCEPT);
  }
  if (const std::uint32_t wanted = partition_.configuration().intercepts.exceptions();
      wanted != exception_intercepts_) {
    exception_intercepts_ = wanted;
    hardware_.set_exception_intercepts(wanted);
  }
  blocked_.store(false);
  changed_ = true;
  if (partition_.configuration().reference_time.generation() != time_generation_) refresh_timer_deadline();
  wake_set_ = 0;
  return run(settings.timer_armed);
}

hv_dispatch_vp_output VirtualProcessor::run(std::uint64_t timer_armed) {
  hv_dispatch_vp_output output{HV_DISPATCH_STATE_READY, HV_DISPATCH_EVENT_NONE, 0, 0};
  bool loaded = false;
  unsigned count = 0;
  while (count != kExitsPerDispatch) {
    if (changed_ || mailbox_.needs_attention() || machine::tsc() >= deadline_) [[unlikely]] {
      const Prepared prepared = prepare(timer_armed);
      if (prepared != Prepared::Enter) {
        if (prepared == Prepared::Block) output.state = HV_DISPATCH_STATE_BLOCKED;
        if (prepared == Prepared::Intercept) output.event = HV_DISPATCH_EVENT_INTERCEPT;
        break;
      }
    }
    if (!loaded) {
      hardware_.load();
      loaded = true;
    }
    const Exit& exit = hardware_.enter();
    ++count;
    const Next next = handle(exit);
    if (next == Next::Enter) [[likely]]
      continue;
    if (next == Next::Prepare) {
      changed_ = true;
      continue;
    }
    if (next == Next::Intercept) output.event = HV_DISPATCH_EVENT_INTERCEPT;
    if (next == Next::Yield) output.event = HV_DISPATCH_EVENT_SPIN;
    break;
  }
  if (loaded) hardware_.unload();
  exits_.store(exits() + count, std::memory_order_relaxed);
  // After unload: a register that was on the processor is in memory now.
  if (output.event == HV_DISPATCH_EVENT_INTERCEPT) publish_registers();
  output.wake_set = wake_set_;
  output.timer_deadline = timer_output(next_deadline());
  return output;
}

VirtualProcessor::Next VirtualProcessor::handle(const Exit& exit) {
  switch (exit.reason) {
    case ExitReason::Cpuid: return handle_cpuid(exit);
    case ExitReason::ReadMsr: return handle_read_msr(exit);
    case ExitReason::WriteMsr: return handle_write_msr(exit);
    case ExitReason::Hypercall: return handle_hypercall(exit);
    case ExitReason::Port: return handle_port(exit);
    case ExitReason::NestedPageFault: return handle_memory(exit);
    case ExitReason::PhysicalInterrupt: return Next::EndDispatch;
    case ExitReason::Kick:
    case ExitReason::InterruptWindow:
    case ExitReason::NmiWindow: return Next::Prepare;
    case ExitReason::Halt:
      if (!finish_instruction(exit, Operation::Halt)) return Next::Prepare;
      activity_ = Activity::Halted;
      return Next::Prepare;
    case ExitReason::Shutdown: return intercept_plain(abi::MessageType::UnrecoverableException);
    case ExitReason::InvalidState: return intercept_plain(abi::MessageType::InvalidVpRegister);
    case ExitReason::Exception: return handle_exception(exit);
    case ExitReason::SetXcr: return handle_set_xcr(exit);
    // Caches of a child are coherent with everything it can see, so there is nothing to write back for it.
    case ExitReason::Invalidate: {
      const bool done = finish_instruction(exit, Operation::Wbinvd) || finish_instruction(exit, Operation::Invd);
      return done ? Next::Enter : Next::Prepare;
    }
    case ExitReason::Pause: return Next::Yield;
    case ExitReason::MonitorWait:
    case ExitReason::UndefinedInstruction: return undefined_instruction();
  }
  return intercept_plain(abi::MessageType::InvalidVpRegister);
}

VirtualProcessor::Next VirtualProcessor::handle_port(const Exit& exit) {
  const PortAccess& access = exit.port;
  const std::uint32_t kind = access.write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ;
  const bool wanted = partition_.configuration().intercepts.wants_port(access.port, kind);
  if (!wanted && !access.string) {
    // Nobody is there: writes get lost, reads give all ones.
    if (!finish_instruction(exit, Operation::PortIo)) return Next::Prepare;
    if (!access.write) {
      std::uint64_t& rax = hardware_.general[0];
      if (access.size == 4)
        rax = 0xffffffff;
      else
        rax |= access.size == 2 ? 0xffff : 0xff;
    }
    return Next::Enter;
  }
  abi::InterceptMessage& message = message_in_place();
  const std::uint64_t length = exit.next_rip - hardware_.rip;
  fill_header(message.intercept, access.write ? abi::InterceptAccess::Write : abi::InterceptAccess::Read,
              exit.next_rip && length <= kMaximumInstructionLength ? static_cast<unsigned>(length) : 0);
  abi::IoPortIntercept& io = message.io_port;
  io.port = access.port;
  io.access_info = static_cast<std::uint8_t>(access.size | (access.string ? 8u : 0u) | (access.rep ? 16u : 0u));
  io.instruction_byte_count = 0;
  io.reserved = 0;
  io.rax = hardware_.general[0];
  if (access.string) {
    io.rcx = hardware_.general[1];
    io.rsi = hardware_.general[6];
    io.rdi = hardware_.general[7];
    // Asking for a segment that exists cannot fail.
    io.ds = hardware_.get_register(abi::RegisterName::Ds).value_or(abi::RegisterValue{}).segment;
    io.es = hardware_.get_register(abi::RegisterName::Es).value_or(abi::RegisterValue{}).segment;
  } else {
    published_ = access.write ? Published::Code : Published::CodeAndGeneral;
  }
  return intercept_in_place(abi::MessageType::IoPort, message, sizeof io);
}

VirtualProcessor::Next VirtualProcessor::handle_exception(const Exit& exit) {
  const ExceptionInformation& information = exit.exception;
  if (!(partition_.configuration().intercepts.exceptions() >> information.vector & 1)) {
    // Intercepted only so that a guest which faults without end cannot hold the processor.
    if (information.vector == 14) {
      (void)hardware_.set_register(abi::RegisterName::Cr2, numeric(information.parameter));
    }
    return inject_exception(information.vector,
                            information.has_error_code ? std::optional(information.error_code) : std::nullopt);
  }
  abi::InterceptMessage message{};
  fill_header(message.intercept, abi::InterceptAccess::Execute, 0);
  message.exception.vector = information.vector;
  message.exception.info = information.has_error_code;
  message.exception.error_code = information.error_code;
  message.exception.parameter = information.parameter;
  return intercept(abi::MessageType::Exception, message, sizeof message.exception);
}

VirtualProcessor::Next VirtualProcessor::handle_set_xcr(const Exit& exit) {
  const std::uint64_t value = hardware_.general[2] << 32 | static_cast<std::uint32_t>(hardware_.general[0]);
  if (hardware_.mode().cpl != 0 || static_cast<std::uint32_t>(hardware_.general[1]) != 0) return general_protection();
  if (hardware_.set_register(abi::RegisterName::Xfem, numeric(value)) != HV_STATUS_SUCCESS) return general_protection();
  return finish_instruction(exit, Operation::SetXcr) ? Next::Enter : Next::Prepare;
}

}  // namespace bulkhead::hypervisor
