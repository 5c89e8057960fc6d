// SPDX-License-Identifier: Apache-2.0
#include "engine/native/native_virtual_processor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

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

NativeVirtualProcessor::NativeVirtualProcessor(std::unique_ptr<VidProcessor> processor, VidPartition& partition,
                                               GuestMemory& memory, std::uint32_t index,
                                               std::uint8_t physical_address_bits)
    : processor_(std::move(processor)),
      partition_(partition),
      index_(index),
      page_(processor_->register_page()),
      emulator_(memory, *this) {
  state_.physical_address_bits = physical_address_bits;
}

Result<Exit> NativeVirtualProcessor::run() {
  if (unfinished_ != Unfinished::Nothing) {
    MaybeExit more = go_on_emulating();
    if (!more) return std::unexpected(more.error());
    if (*more) return std::move(**more);
  }
  for (;;) {
    const Result<RunEnd> end = enter();
    if (!end) return std::unexpected(end.error());
    switch (*end) {
      case RunEnd::Intercept: {
        MaybeExit exit = translate();
        if (!exit) return std::unexpected(exit.error());
        if (*exit) return std::move(**exit);
        break;
      }
      case RunEnd::Cancelled:
        // Otherwise only request_interrupt_window wanted to be heard.
        if (cancelled_.exchange(false)) return CancelledExit{};
        break;
      case RunEnd::Suspended:
        return FailureExit{fmt::format("virtual processor {} is suspended", index_)};
    }
  }
}

/// Runs the guest. `in_driver_` is set before the wish for a window is looked at, so that a wish that comes after that
/// look finds it set and ends the run.
Result<RunEnd> NativeVirtualProcessor::enter() {
  in_driver_.store(true);
  Result<> asked;
  if (window_wanted_.load() && !window_asked_) asked = ask_for_window();
  if (!asked) {
    in_driver_.store(false);
    return std::unexpected(asked.error());
  }
  const Result<RunEnd> end = processor_->run();
  in_driver_.store(false);
  return end;
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
  return partition_.assert_interrupt(interrupt);
}

/// The exit that the intercept message means, or nothing if the guest can go on.
NativeVirtualProcessor::MaybeExit NativeVirtualProcessor::translate() {
  const abi::InterceptMessage& message = processor_->message();
  switch (message.header.type) {
    case MessageType::IoPort:
      return translate_port(message.io_port);
    case MessageType::UnmappedGpa:
    case MessageType::GpaIntercept:
      return translate_memory(message.memory);
    case MessageType::ApicEoi:
      return EoiExit{.vector = static_cast<std::uint8_t>(message.eoi.vector)};
    case MessageType::InterruptionDeliverable:
      window_asked_ = false;
      if (!window_wanted_.exchange(false)) return std::nullopt;
      return InterruptWindowExit{};
    case MessageType::UnrecoverableException:
      return TripleFaultExit{};
    case MessageType::InvalidVpRegister:
      return FailureExit{fmt::format("virtual processor {} has registers that no processor can have", index_)};
    default:
      return FailureExit{fmt::format("the hypervisor sent a message of unknown type {:#x}",
                                     static_cast<std::uint32_t>(message.header.type))};
  }
}

NativeVirtualProcessor::MaybeExit NativeVirtualProcessor::translate_port(const abi::IoPortIntercept& intercept) {
  const unsigned length = intercept.header.instruction_length();
  if (intercept.is_string()) return emulate({});
  if (length == 0)
    return FailureExit{
        fmt::format("an access of port {:#x} came without the length of its instruction", intercept.port)};
  const auto size = static_cast<std::uint8_t>(intercept.size());
  if (intercept.header.access == abi::InterceptAccess::Write) {
    if (auto left = leave_instruction(length); !left) return std::unexpected(left.error());
    const auto data = static_cast<std::uint32_t>(intercept.rax & emulator::mask_of(size));
    return PortExit{.port = intercept.port, .size = size, .write = true, .data = data};
  }
  unfinished_ = Unfinished::PortRead;
  port_read_size_ = size;
  port_read_length_ = length;
  return PortExit{.port = intercept.port, .size = size, .write = false, .data = 0};
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

NativeVirtualProcessor::MaybeExit NativeVirtualProcessor::translate_memory(const abi::MemoryIntercept& intercept) {
  if (intercept.header.execution_state & kInterruptionPending) {
    return FailureExit{
        fmt::format("an interrupt or exception cannot be delivered: there is no memory at {:#x}", intercept.gpa)};
  }
  const bool is_fetch = intercept.header.access == abi::InterceptAccess::Execute;
  if (is_fetch) return FailureExit{fmt::format("the guest executes at {:#x}, where there is no memory", intercept.gpa)};
  return emulate({.address = intercept.gpa, .is_operand = (intercept.access_info & 2) != 0, .is_fetch = false});
}

NativeVirtualProcessor::MaybeExit NativeVirtualProcessor::emulate(emulator::AccessHint hint) {
  std::memcpy(state_.general.data(), page_.general, sizeof(page_.general));
  std::memcpy(state_.segments.data(), page_.segments, sizeof(page_.segments));
  state_.rip = page_.rip;
  state_.rflags = page_.rflags;
  state_.cr0 = page_.cr0;
  state_.cr3 = page_.cr3;
  state_.cr4 = page_.cr4;
  state_.efer = page_.efer;
  return take(emulator_.begin(state_, hint));
}

NativeVirtualProcessor::MaybeExit NativeVirtualProcessor::go_on_emulating() {
  switch (std::exchange(unfinished_, Unfinished::Nothing)) {
    case Unfinished::EmulatedRead:
      return take(emulator_.resume(read_value_));
    case Unfinished::EmulatedWrite:
      return take(emulator_.resume());
    case Unfinished::PortRead: {
      std::uint64_t& rax = page_.general[0];
      const std::uint64_t mask = emulator::mask_of(port_read_size_);
      rax = port_read_size_ == 4 ? read_value_ & mask : (rax & ~mask) | (read_value_ & mask);
      page_.dirty |= abi::kDirtyGeneral;
      if (auto left = leave_instruction(port_read_length_); !left) return std::unexpected(left.error());
      return std::nullopt;
    }
    case Unfinished::Nothing:
      return std::nullopt;
  }
  return std::nullopt;
}

NativeVirtualProcessor::MaybeExit NativeVirtualProcessor::take(const emulator::Step& step) {
  if (const auto* access = std::get_if<emulator::MemoryAccess>(&step)) {
    unfinished_ = access->write ? Unfinished::EmulatedWrite : Unfinished::EmulatedRead;
    return MmioExit{.address = access->address, .size = access->size, .write = access->write, .data = access->data};
  }
  if (const auto* completed = std::get_if<emulator::Completed>(&step)) {
    publish_emulated_state();
    if (completed->single_step) {
      if (auto stepped = single_step(); !stepped) return std::unexpected(stepped.error());
    }
    return std::nullopt;
  }
  if (const auto* port = std::get_if<emulator::PortAccess>(&step)) {
    unfinished_ = port->write ? Unfinished::EmulatedWrite : Unfinished::EmulatedRead;
    return PortExit{.port = port->port, .size = port->size, .write = port->write, .data = port->data};
  }
  if (const auto* fault = std::get_if<emulator::Fault>(&step)) {
    publish_emulated_state();  // of repetitions that were complete
    if (fault->sets_cr2) {
      if (auto placed = set(RegisterName::Cr2, fault->cr2); !placed) return std::unexpected(placed.error());
    }
    auto injected =
        inject_exception(fault->vector, fault->has_error_code ? std::optional(fault->error_code) : std::nullopt);
    if (!injected) return std::unexpected(injected.error());
    return std::nullopt;
  }
  return FailureExit{fmt::format("cannot emulate {}, which needs a device", emulator_.describe())};
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

}  // namespace bulkhead::engine::native
