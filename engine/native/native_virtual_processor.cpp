// SPDX-License-Identifier: Apache-2.0
#include "engine/native/native_virtual_processor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/guest_crash.hpp"
#include "engine/native/native_partition.hpp"
#include "engine/native/native_saved_processor.hpp"

namespace bulkhead::engine::native {
namespace {

using abi::MessageType;
using abi::RegisterName;

constexpr std::uint8_t kDebugException = 1;
constexpr std::uint64_t kDr6SingleStep = 1u << 14;
constexpr std::uint16_t kInterruptionPending = 1u << 6;  // of InterceptHeader::execution_state

/// The address of the instruction that follows, as wide as the code is.
std::uint64_t next_instruction(const abi::RegisterPage& page, unsigned length) {
  const std::uint64_t next = page.rip + length;
  const std::uint16_t code = page.segments[emulator::kCs].attributes;
  if ((page.efer & emulator::kEferLongModeActive) && (code & emulator::kSegmentLong)) return next;
  return next & ((code & emulator::kSegmentDefault) ? 0xffffffff : 0xffff);
}

hv_register_assignment assignment(RegisterName name, std::uint64_t value) {
  hv_register_assignment made = {};
  made.name = static_cast<std::uint32_t>(name);
  made.value.low = value;
  return made;
}

}  // namespace

NativeVirtualProcessor::NativeVirtualProcessor(std::unique_ptr<VidProcessor> processor, NativePartition& partition,
                                               std::uint32_t index, std::uint8_t physical_address_bits)
    : processor_(std::move(processor)),
      partition_(partition),
      memory_(partition.memory()),
      synic_calls_(partition.synic_calls()),
      index_(index),
      page_(processor_->register_page()),
      emulator_(partition.memory(), *this, &partition.written_pages()) {
  state_.physical_address_bits = physical_address_bits;
}

Result<Exit> NativeVirtualProcessor::run() {
  Result<Exit> result(std::in_place, CancelledExit{});
  if (unfinished_ != Unfinished::Nothing && go_on(result) == After::Return) return result;
  for (;;) {
    const Result<RunEnd> end = enter();
    if (!end) [[unlikely]] {
      result = std::unexpected(end.error());
      return result;
    }
    if (*end == RunEnd::Intercept) [[likely]] {
      if (translate(result) == After::Return) return result;
    } else if (*end == RunEnd::Suspended) {
      fail_with(result, fmt::format("virtual processor {} is suspended", index_));
      return result;
    } else if (cancelled_.exchange(false)) {
      return result;
    }
    // Otherwise only request_interrupt_window wanted to be heard.
  }
}

/// Runs the guest. `in_driver_` is set before the wish for a window is looked at, so that a wish that comes after that
/// look finds it set and ends the run.
Result<RunEnd> NativeVirtualProcessor::enter() {
  in_driver_.store(true);
  if (window_wanted_.load() && !window_asked_) [[unlikely]] {
    if (auto asked = ask_for_window(); !asked) {
      in_driver_.store(false);
      return std::unexpected(asked.error());
    }
  }
  Result<RunEnd> end = processor_->run();
  in_driver_.store(false, std::memory_order_release);
  return end;
}

/// Ends `run` with an error of the engine.
NativeVirtualProcessor::After NativeVirtualProcessor::give_up(Result<Exit>& result, const Error& error) {
  result = std::unexpected(error);
  return After::Return;
}

/// Ends `run` with something that the guest did wrong.
NativeVirtualProcessor::After NativeVirtualProcessor::fail_with(Result<Exit>& result, std::string why) {
  *result = FailureExit{std::move(why)};
  return After::Return;
}

void NativeVirtualProcessor::cancel() {
  cancelled_.store(true);
  processor_->cancel();
}

void NativeVirtualProcessor::request_interrupt_window(bool wanted) {
  window_wanted_.store(wanted);
  if (wanted && in_driver_.load()) processor_->cancel();
}

Result<> NativeVirtualProcessor::ask_for_window() {
  window_asked_ = true;
  return set(RegisterName::DeliverabilityNotifications, abi::kNotifyInterruptDeliverable);
}

Result<> NativeVirtualProcessor::inject_external_interrupt(std::uint8_t vector) {
  bulkhead_assert_interrupt interrupt = {};
  interrupt.interrupt_type = HV_INTERRUPT_TYPE_EXTINT;
  interrupt.destination = index_;
  interrupt.vector = vector;
  return partition_.vid().assert_interrupt(interrupt);
}

/// The exit that the intercept message means, if the guest cannot go on without one.
NativeVirtualProcessor::After NativeVirtualProcessor::translate(Result<Exit>& result) {
  const abi::InterceptMessage& message = processor_->message();
  switch (message.header.type) {
    case MessageType::IoPort: return translate_port(message.io_port, result);
    case MessageType::UnmappedGpa:
    case MessageType::GpaIntercept: return translate_memory(message.memory, result);
    case MessageType::ApicEoi:
      *result = EoiExit{.vector = static_cast<std::uint8_t>(message.eoi.vector)};
      return After::Return;
    case MessageType::InterruptionDeliverable:
      window_asked_ = false;
      if (!window_wanted_.exchange(false)) return After::Enter;
      *result = InterruptWindowExit{};
      return After::Return;
    case MessageType::HypercallIntercept: return translate_hypercall(message.hypercall, result);
    case MessageType::Msr: return translate_msr(message.msr, result);
    case MessageType::SynicSintDeliverable: synic_calls_.slot_freed(abi::VpIndex{index_}); return After::Enter;
    case MessageType::UnrecoverableException: *result = TripleFaultExit{}; return After::Return;
    case MessageType::InvalidVpRegister:
      return fail_with(result, fmt::format("virtual processor {} has registers that no processor can have", index_));
    default:
      return fail_with(result, fmt::format("the hypervisor sent a message of unknown type {:#x}",
                                           static_cast<std::uint32_t>(message.header.type)));
  }
}

/// A message or an event of the guest: TLFS, "Hypercall Interface", for which registers hold what in which mode.
NativeVirtualProcessor::After NativeVirtualProcessor::translate_hypercall(const abi::HypercallIntercept& call,
                                                                          Result<Exit>& result) {
  const bool wide = (page_.efer & emulator::kEferLongModeActive) &&
                    (page_.segments[emulator::kCs].attributes & emulator::kSegmentLong);
  const auto pair = [](std::uint64_t high, std::uint64_t low) { return high << 32 | static_cast<std::uint32_t>(low); };
  const std::uint64_t control = wide ? call.rcx : pair(call.rdx, call.rax);
  const std::uint64_t input = wide ? call.rdx : pair(call.rbx, call.rcx);
  const unsigned length = call.header.instruction_length();
  if (length == 0) return fail_with(result, "a hypercall came without the length of its instruction");
  page_.general[0] = synic_calls_.call(control, input);
  if (!wide) page_.general[2] = 0;
  page_.dirty |= abi::kDirtyGeneral;
  if (auto left = leave_instruction(length); !left) return give_up(result, left.error());
  return After::Enter;
}

/// A write of one of the two registers that the hypervisor leaves to us.
NativeVirtualProcessor::After NativeVirtualProcessor::translate_msr(const abi::MsrIntercept& intercept,
                                                                    Result<Exit>& result) {
  const unsigned length = intercept.header.instruction_length();
  if (length == 0 || intercept.header.access != abi::InterceptAccess::Write) {
    return fail_with(result, fmt::format("an access of register {:#x} was not expected", intercept.msr));
  }
  if (auto left = leave_instruction(length); !left) return give_up(result, left.error());
  if (intercept.msr == kMsrReset) {
    *result = ResetExit{};
    return After::Return;
  }
  std::array<hv_register_assignment, 5> names{};
  for (std::uint32_t index = 0; index < names.size(); ++index) {
    names[index].name = static_cast<std::uint32_t>(RegisterName::CrashP0) + index;
  }
  if (auto read = processor_->get_registers(names); !read) return give_up(result, read.error());
  std::array<std::uint64_t, 5> parameters{};
  for (std::size_t index = 0; index < names.size(); ++index) parameters[index] = names[index].value.low;
  const std::uint64_t control = intercept.rdx << 32 | static_cast<std::uint32_t>(intercept.rax);
  *result = read_crash(&memory_, parameters, control);
  return After::Return;
}

NativeVirtualProcessor::After NativeVirtualProcessor::translate_port(const abi::IoPortIntercept& intercept,
                                                                     Result<Exit>& result) {
  const unsigned length = intercept.header.instruction_length();
  if (intercept.is_string()) return emulate({}, result);
  if (length == 0) {
    return fail_with(result,
                     fmt::format("an access of port {:#x} came without the length of its instruction", intercept.port));
  }
  const auto size = static_cast<std::uint8_t>(intercept.size());
  if (intercept.header.access == abi::InterceptAccess::Write) {
    if (auto left = leave_instruction(length); !left) [[unlikely]]
      return give_up(result, left.error());
    const auto data = static_cast<std::uint32_t>(intercept.rax & emulator::mask_of(size));
    *result = PortExit{.port = intercept.port, .size = size, .write = true, .data = data};
    return After::Return;
  }
  unfinished_ = Unfinished::PortRead;
  port_read_size_ = size;
  port_read_length_ = length;
  *result = PortExit{.port = intercept.port, .size = size, .write = false, .data = 0};
  return After::Return;
}

void NativeVirtualProcessor::complete_read(std::uint64_t value) {
  if (unfinished_ == Unfinished::EmulatedRead || unfinished_ == Unfinished::PortRead) read_value_ = value;
}

/// Moves on behind an instruction that was executed here.
Result<> NativeVirtualProcessor::leave_instruction(unsigned length) {
  page_.rip = next_instruction(page_, length);
  page_.dirty |= abi::kDirtyInstructionPointer;
  if ((page_.rflags & (emulator::kResume | emulator::kTrap)) == 0) [[likely]]
    return {};
  page_.rflags &= ~emulator::kResume;
  page_.dirty |= abi::kDirtyFlags;
  return (page_.rflags & emulator::kTrap) ? single_step() : Result<>();
}

NativeVirtualProcessor::After NativeVirtualProcessor::translate_memory(const abi::MemoryIntercept& intercept,
                                                                       Result<Exit>& result) {
  if (intercept.header.execution_state & kInterruptionPending) [[unlikely]] {
    return fail_with(result, fmt::format("an interrupt or exception cannot be delivered: there is no memory at {:#x}",
                                         intercept.gpa));
  }
  if (intercept.header.access == abi::InterceptAccess::Execute) [[unlikely]] {
    return fail_with(result, fmt::format("the guest executes at {:#x}, where there is no memory", intercept.gpa));
  }
  return emulate({.address = intercept.gpa, .is_operand = (intercept.access_info & 2) != 0, .is_fetch = false}, result);
}

NativeVirtualProcessor::After NativeVirtualProcessor::emulate(emulator::AccessHint hint, Result<Exit>& result) {
  std::memcpy(state_.general.data(), page_.general, sizeof(page_.general));
  std::memcpy(state_.segments.data(), page_.segments, sizeof(page_.segments));
  state_.rip = page_.rip;
  state_.rflags = page_.rflags;
  state_.cr0 = page_.cr0;
  state_.cr3 = page_.cr3;
  state_.cr4 = page_.cr4;
  state_.efer = page_.efer;
  return take(emulator_.begin(state_, hint), result);
}

/// Goes on with the instruction of the last exit.
NativeVirtualProcessor::After NativeVirtualProcessor::go_on(Result<Exit>& result) {
  switch (std::exchange(unfinished_, Unfinished::Nothing)) {
    case Unfinished::EmulatedRead: return take(emulator_.resume(read_value_), result);
    case Unfinished::EmulatedWrite: return take(emulator_.resume(), result);
    case Unfinished::PortRead: {
      std::uint64_t& rax = page_.general[0];
      const std::uint64_t mask = emulator::mask_of(port_read_size_);
      rax = port_read_size_ == 4 ? read_value_ & mask : (rax & ~mask) | (read_value_ & mask);
      page_.dirty |= abi::kDirtyGeneral;
      if (auto left = leave_instruction(port_read_length_); !left) return give_up(result, left.error());
      return After::Enter;
    }
    case Unfinished::Nothing: break;
  }
  return After::Enter;
}

NativeVirtualProcessor::After NativeVirtualProcessor::take(const emulator::Step& step, Result<Exit>& result) {
  if (const auto* access = std::get_if<emulator::MemoryAccess>(&step)) {
    unfinished_ = access->write ? Unfinished::EmulatedWrite : Unfinished::EmulatedRead;
    *result = MmioExit{.address = access->address, .size = access->size, .write = access->write, .data = access->data};
    return After::Return;
  }
  if (const auto* completed = std::get_if<emulator::Completed>(&step)) {
    publish_emulated_state();
    if (!completed->single_step) [[likely]]
      return After::Enter;
    if (auto stepped = single_step(); !stepped) return give_up(result, stepped.error());
    return After::Enter;
  }
  if (const auto* port = std::get_if<emulator::PortAccess>(&step)) {
    unfinished_ = port->write ? Unfinished::EmulatedWrite : Unfinished::EmulatedRead;
    *result = PortExit{.port = port->port, .size = port->size, .write = port->write, .data = port->data};
    return After::Return;
  }
  if (const auto* fault = std::get_if<emulator::Fault>(&step)) {
    publish_emulated_state();  // of repetitions that were complete
    if (auto delivered = deliver(*fault); !delivered) return give_up(result, delivered.error());
    return After::Enter;
  }
  return fail_with(result, fmt::format("cannot emulate {}, which needs a device", emulator_.describe()));
}

Result<> NativeVirtualProcessor::deliver(const emulator::Fault& fault) {
  if (fault.sets_cr2) {
    if (auto placed = set(RegisterName::Cr2, fault.cr2); !placed) return placed;
  }
  return inject_exception(fault.vector, fault.has_error_code ? std::optional(fault.error_code) : std::nullopt);
}

void NativeVirtualProcessor::publish_emulated_state() {
  std::memcpy(page_.general, state_.general.data(), sizeof(page_.general));
  page_.rip = state_.rip;
  page_.rflags = state_.rflags;
  page_.dirty |= abi::kDirtyGeneral | abi::kDirtyInstructionPointer | abi::kDirtyFlags;
}

Result<> NativeVirtualProcessor::set(RegisterName name, std::uint64_t value) {
  hv_register_assignment one = assignment(name, value);
  return processor_->set_registers(std::span(&one, 1));
}

Result<> NativeVirtualProcessor::inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) {
  std::uint64_t pending =
      1 | std::uint64_t{static_cast<std::uint8_t>(abi::InterruptionType::Exception)} << 1 | std::uint64_t{vector} << 16;
  if (error_code) pending |= 1u << 4 | std::uint64_t{*error_code} << 32;
  return set(RegisterName::PendingInterruption, pending);
}

Result<> NativeVirtualProcessor::single_step() {
  hv_register_assignment dr6 = assignment(RegisterName::Dr6, 0);
  if (auto read = processor_->get_registers(std::span(&dr6, 1)); !read) return read;
  if (auto written = set(RegisterName::Dr6, dr6.value.low | kDr6SingleStep); !written) return written;
  return inject_exception(kDebugException, std::nullopt);
}

bool NativeVirtualProcessor::read(unsigned index, std::span<std::uint8_t, 16> value) {
  hv_register_assignment one = {};
  one.name = static_cast<std::uint32_t>(RegisterName::Xmm0) + index;
  if (!processor_->get_registers(std::span(&one, 1))) return false;
  std::memcpy(value.data(), &one.value, value.size());
  return true;
}

bool NativeVirtualProcessor::write(unsigned index, std::span<const std::uint8_t, 16> value, bool clear_upper) {
  if (clear_upper) return false;  // registers above 128 bits have no names
  hv_register_assignment one = {};
  one.name = static_cast<std::uint32_t>(RegisterName::Xmm0) + index;
  std::memcpy(&one.value, value.data(), value.size());
  return processor_->set_registers(std::span(&one, 1)).has_value();
}

/// What was changed in the register page reaches the hypervisor only at the next dispatch; before registers are used by
/// name it must be there.
Result<> NativeVirtualProcessor::flush_register_page() {
  std::vector<hv_register_assignment> changed;
  if (page_.dirty & abi::kDirtyGeneral) {
    for (std::uint32_t number = 0; number < 16; ++number) {
      changed.push_back(assignment(static_cast<RegisterName>(static_cast<std::uint32_t>(RegisterName::Rax) + number),
                                   page_.general[number]));
    }
  }
  if (page_.dirty & abi::kDirtyInstructionPointer) changed.push_back(assignment(RegisterName::Rip, page_.rip));
  if (page_.dirty & abi::kDirtyFlags) changed.push_back(assignment(RegisterName::Rflags, page_.rflags));
  page_.dirty = 0;
  return changed.empty() ? Result<>() : processor_->set_registers(changed);
}

Result<> NativeVirtualProcessor::set_registers(std::span<const RegisterAssignment> assignments) {
  if (auto flushed = flush_register_page(); !flushed) return flushed;
  unfinished_ = Unfinished::Nothing;
  std::vector<hv_register_assignment> list;
  for (const auto& from : assignments) {
    hv_register_assignment to = {};
    to.name = static_cast<std::uint32_t>(from.name);
    to.value = from.value.raw;
    list.push_back(to);
  }
  return processor_->set_registers(list);
}

Result<> NativeVirtualProcessor::get_registers(std::span<RegisterAssignment> assignments) {
  if (auto flushed = flush_register_page(); !flushed) return flushed;
  std::vector<hv_register_assignment> list;
  for (const auto& to : assignments) {
    hv_register_assignment name = {};
    name.name = static_cast<std::uint32_t>(to.name);
    list.push_back(name);
  }
  if (auto read = processor_->get_registers(list); !read) return read;
  for (std::size_t index = 0; index < list.size(); ++index) assignments[index].value.raw = list[index].value;
  return {};
}

Result<> NativeVirtualProcessor::check_frozen() const {
  if (partition_.time_is_frozen()) return {};
  return fail("a processor is saved and restored only while the partition's time stands still");
}

Result<state::SavedUnit> NativeVirtualProcessor::save() {
  if (auto frozen = check_frozen(); !frozen) return std::unexpected(frozen.error());
  if (auto flushed = flush_register_page(); !flushed) return std::unexpected(flushed.error());
  return save_processor({*processor_, partition_.vid(), index_, partition_.tsc_frequency()});
}

Result<> NativeVirtualProcessor::restore(const state::SavedUnit& saved) {
  if (auto frozen = check_frozen(); !frozen) return frozen;
  page_.dirty = 0;
  unfinished_ = Unfinished::Nothing;
  window_asked_ = false;
  return restore_processor({*processor_, partition_.vid(), index_, partition_.tsc_frequency()}, saved);
}

}  // namespace bulkhead::engine::native
