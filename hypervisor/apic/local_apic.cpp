// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/apic/local_apic.hpp"

#include <bit>
#include <cstring>

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint32_t kVersion = 0x14 | 5 << 16;  // integrated APIC with six LVT entries
constexpr std::uint32_t kSendIllegalVector = 1 << 5;
constexpr std::uint32_t kReceiveIllegalVector = 1 << 6;
constexpr std::uint32_t kIllegalRegister = 1 << 7;

constexpr unsigned kTimer = 0, kLint0 = 3, kError = 5;  // in lvt_
/// Bits that software can write: timer, thermal, performance, LINT0, LINT1, error.
constexpr std::array<std::uint32_t, 6> kLvtBits = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
constexpr std::uint32_t kCommandBits = 0xccfff;
constexpr std::uint32_t kSpuriousBits = 0x3ff;

constexpr unsigned number(LocalApic::Register value) { return static_cast<unsigned>(value); }

}  // namespace

void LocalApic::reset(std::uint32_t id, bool bootstrap, bool offers_x2apic, std::uint64_t minimum_timer_period) {
  base_ = kApicBaseAddress | kEnabled | (bootstrap ? kBootstrap : 0);
  id_ = id;
  offers_x2apic_ = offers_x2apic;
  timer_.set_minimum_period(minimum_timer_period);
  init();
}

void LocalApic::init() {
  task_priority_ = 0;
  logical_destination_ = 0;
  destination_format_ = 0xffffffff;
  spurious_vector_ = 0xff;
  error_status_ = pending_errors_ = 0;
  command_low_ = command_high_ = 0;
  lvt_.fill(kMasked);
  requested_ = in_service_ = level_ = {};
  timer_.reset();
}

LocalApic::Outcome LocalApic::set_base(std::uint64_t value) {
  constexpr std::uint64_t kFixed = ~(kModeBits | kBootstrap);
  const std::uint64_t mode = value & kModeBits;
  const std::uint64_t old_mode = base_ & kModeBits;
  if ((value & kFixed) != kApicBaseAddress || mode == kX2Apic) return {.fault = true};
  if (mode == kModeBits && (!offers_x2apic_ || old_mode == 0)) return {.fault = true};
  if (mode == kEnabled && old_mode == kModeBits) return {.fault = true};
  if (mode == 0 && old_mode != 0) init();
  base_ = value;
  if (mode != old_mode && mode == kModeBits) command_low_ = command_high_ = 0;
  return {};
}

ApicAddress LocalApic::address() const {
  return {.id = id_,
          .enabled = (base_ & kEnabled) != 0,
          .accepting = (spurious_vector_ & kSoftwareEnabled) != 0,
          .x2apic = is_x2apic(),
          .cluster_model = destination_format_ >> 28 == 0,
          .logical_id = static_cast<std::uint8_t>(logical_destination_ >> 24)};
}

std::optional<std::uint8_t> LocalApic::highest(const VectorSet& set) {
  for (unsigned word = 4; word-- > 0;) {
    if (set[word]) return static_cast<std::uint8_t>(word * 64 + 63 - std::countl_zero(set[word]));
  }
  return std::nullopt;
}

std::uint8_t LocalApic::processor_priority() const {
  const std::uint8_t serving = highest(in_service_).value_or(0);
  return (task_priority_ & 0xf0) >= (serving & 0xf0) ? task_priority_ : static_cast<std::uint8_t>(serving & 0xf0);
}

std::optional<std::uint8_t> LocalApic::deliverable() const {
  const std::optional<std::uint8_t> vector = highest(requested_);
  if (!vector || (*vector & 0xf0) <= (processor_priority() & 0xf0)) return std::nullopt;
  return vector;
}

std::optional<std::uint8_t> LocalApic::waiting() const {
  const std::optional<std::uint8_t> vector = highest(requested_);
  if (!vector || (*vector & 0xf0) <= (highest(in_service_).value_or(0) & 0xf0)) return std::nullopt;
  return vector;
}

void LocalApic::take(std::uint8_t vector) {
  requested_[vector / 64] &= ~(1ull << (vector % 64));
  in_service_[vector / 64] |= 1ull << (vector % 64);
}

void LocalApic::accept(std::uint8_t vector, bool level) {
  if (vector < 16) return raise_error(kReceiveIllegalVector);
  const std::uint64_t bit = 1ull << (vector % 64);
  requested_[vector / 64] |= bit;
  level_[vector / 64] = level ? level_[vector / 64] | bit : level_[vector / 64] & ~bit;
}

bool LocalApic::accepts_external() const {
  if (!(base_ & kEnabled)) return true;
  return !(lvt_[kLint0] & kMasked) && static_cast<DeliveryMode>(lvt_[kLint0] >> 8 & 7) == DeliveryMode::ExtInt;
}

void LocalApic::raise_error(std::uint32_t bits) {
  pending_errors_ |= bits;
  const std::uint32_t entry = lvt_[kError];
  // An illegal vector here is not an error again, or it would have no end.
  if (!(entry & kMasked) && (entry & 0xff) >= 16) accept(static_cast<std::uint8_t>(entry), false);
}

void LocalApic::fire_timer(std::uint64_t now) {
  timer_.fire(now);
  if (!(lvt_[kTimer] & kMasked)) accept(static_cast<std::uint8_t>(lvt_[kTimer]), false);
}

std::uint32_t LocalApic::logical_destination() const {
  return is_x2apic() ? (id_ >> 4) << 16 | 1u << (id_ & 15) : logical_destination_;
}

std::optional<std::uint32_t> LocalApic::read_register(unsigned index, std::uint64_t now) const {
  if (index >= number(Register::InService) && index < number(Register::ErrorStatus)) {
    const VectorSet& set = index < number(Register::TriggerMode)        ? in_service_
                           : index < number(Register::InterruptRequest) ? level_
                                                                        : requested_;
    return part(set, index % 8);
  }
  if (index >= number(Register::LvtTimer) && index <= number(Register::LvtError)) {
    return lvt_[index - number(Register::LvtTimer)];
  }
  switch (static_cast<Register>(index)) {
    case Register::Id: return is_x2apic() ? id_ : id_ << 24;
    case Register::Version: return kVersion;
    case Register::TaskPriority: return task_priority_;
    case Register::ProcessorPriority: return processor_priority();
    case Register::LogicalDestination: return logical_destination();
    case Register::SpuriousVector: return spurious_vector_;
    case Register::ErrorStatus: return error_status_;
    case Register::CommandLow: return command_low_;
    case Register::TimerInitialCount: return timer_.initial_count();
    case Register::TimerCurrentCount: return timer_.current_count(now);
    case Register::TimerDivide: return timer_.divide_configuration();
    default: return std::nullopt;
  }
}

std::uint32_t LocalApic::read(std::uint32_t offset, std::uint64_t now) {
  const unsigned index = offset >> 4;
  if (offset & 0xf) return 0;  // only the first four bytes of sixteen are a register
  switch (static_cast<Register>(index)) {
    case Register::DestinationFormat: return destination_format_;
    case Register::CommandHigh: return command_high_;
    case Register::ArbitrationPriority:
    case Register::RemoteRead:
    case Register::EndOfInterrupt: return 0;
    default: break;
  }
  const std::optional<std::uint32_t> value = read_register(index, now);
  if (!value) raise_error(kIllegalRegister);
  return value.value_or(0);
}

std::optional<std::uint64_t> LocalApic::read_x2(std::uint32_t index, std::uint64_t now) const {
  if (!is_x2apic()) return std::nullopt;
  if (index == number(Register::CommandLow)) return std::uint64_t{command_high_} << 32 | command_low_;
  return read_register(index, now);
}

void LocalApic::write_lvt(unsigned index, std::uint32_t value) {
  value &= kLvtBits[index];
  if (!(spurious_vector_ & kSoftwareEnabled)) value |= kMasked;
  if (index == kTimer) timer_.set_mode(timer_mode(value));
  lvt_[index] = value;
}

void LocalApic::write_spurious_vector(std::uint32_t value) {
  spurious_vector_ = value & kSpuriousBits;
  if (spurious_vector_ & kSoftwareEnabled) return;
  for (std::uint32_t& entry : lvt_) entry |= kMasked;
}

LocalApic::Outcome LocalApic::end_of_interrupt() {
  const std::optional<std::uint8_t> vector = highest(in_service_);
  if (!vector) return {};
  in_service_[*vector / 64] &= ~(1ull << (*vector % 64));
  if (!contains(level_, *vector)) return {};
  return {.level_eoi = vector};
}

LocalApic::Outcome LocalApic::write_command(std::uint32_t low, std::uint32_t destination) {
  command_low_ = low;
  const auto request = hypervisor::InterruptRequest::from_command(low, destination, is_x2apic());
  if (request.mode == DeliveryMode::Fixed || request.mode == DeliveryMode::LowestPriority) {
    if (request.vector < 16) {
      raise_error(kSendIllegalVector);
      return {};
    }
    if (request.kind == Destination::Self) {
      accept(request.vector, false);
      return {};
    }
  } else if (request.kind == Destination::Self || request.kind == Destination::All) {
    return {};  // not a valid combination
  }
  if (is_init_deassert(low)) return {};  // only synchronises arbitration ids, of which there are none
  switch (request.mode) {
    case DeliveryMode::Reserved:
    case DeliveryMode::Smi:
    case DeliveryMode::ExtInt: return {};  // there is no SMM, and ExtINT comes from the PIC only
    default: return {.send = request};
  }
}

LocalApic::Outcome LocalApic::set_command(std::uint64_t value) {
  if (is_x2apic()) return write_x2(number(Register::CommandLow), value, 0);
  command_high_ = static_cast<std::uint32_t>(value >> 32) & 0xff000000;
  return write_command(static_cast<std::uint32_t>(value) & kCommandBits, command_high_ >> 24);
}

LocalApic::Outcome LocalApic::write(std::uint32_t offset, std::uint32_t value, std::uint64_t now) {
  const unsigned index = offset >> 4;
  if (offset & 0xf) return {};
  if (index >= number(Register::LvtTimer) && index <= number(Register::LvtError)) {
    write_lvt(index - number(Register::LvtTimer), value);
    return {};
  }
  switch (static_cast<Register>(index)) {
    case Register::EndOfInterrupt: return end_of_interrupt();
    case Register::CommandLow: return write_command(value & kCommandBits, command_high_ >> 24);
    case Register::CommandHigh: command_high_ = value & 0xff000000; break;
    case Register::TaskPriority: task_priority_ = static_cast<std::uint8_t>(value); break;
    case Register::LogicalDestination: logical_destination_ = value & 0xff000000; break;
    case Register::DestinationFormat: destination_format_ = value | 0x0fffffff; break;
    case Register::SpuriousVector: write_spurious_vector(value); break;
    case Register::ErrorStatus:
      error_status_ = pending_errors_;
      pending_errors_ = 0;
      break;
    case Register::TimerInitialCount: timer_.set_initial_count(value, now); break;
    case Register::TimerDivide: timer_.set_divide_configuration(value, now); break;
    case Register::ArbitrationPriority:
    case Register::RemoteRead: break;
    default:  // read-only, or none
      if (!read_register(index, now)) raise_error(kIllegalRegister);
      break;
  }
  return {};
}

LocalApic::Outcome LocalApic::write_x2(std::uint32_t index, std::uint64_t value, std::uint64_t now) {
  constexpr Outcome kFault{.fault = true};
  if (!is_x2apic()) return kFault;
  const auto low = static_cast<std::uint32_t>(value);
  if (index == number(Register::CommandLow)) {
    if (low & ~kCommandBits) return kFault;
    command_high_ = static_cast<std::uint32_t>(value >> 32);
    return write_command(low, command_high_);
  }
  if (value >> 32) return kFault;
  std::uint32_t writable = 0;
  if (index >= number(Register::LvtTimer) && index <= number(Register::LvtError)) {
    // Delivery status and remote IRR are read-only, not reserved.
    writable = kLvtBits[index - number(Register::LvtTimer)] | 0x5000;
  } else {
    switch (static_cast<Register>(index)) {
      case Register::EndOfInterrupt:
      case Register::ErrorStatus: writable = 0; break;
      case Register::TaskPriority: writable = 0xff; break;
      case Register::SpuriousVector: writable = kSpuriousBits; break;
      case Register::TimerInitialCount: writable = 0xffffffff; break;
      case Register::TimerDivide: writable = 0xb; break;
      case Register::SelfIpi: writable = 0xff; break;
      default: return kFault;
    }
  }
  if (low & ~writable) return kFault;
  if (index == number(Register::SelfIpi)) {
    if (low < 16)
      raise_error(kSendIllegalVector);
    else
      accept(static_cast<std::uint8_t>(low), false);
    return {};
  }
  return write(index << 4, low, now);
}

void LocalApic::save(hv_local_interrupt_controller_state& state, std::uint64_t now) const {
  state.apic_id = *read_register(number(Register::Id), now);
  state.apic_version = kVersion;
  state.apic_ldr = logical_destination();
  state.apic_dfr = destination_format_;
  state.apic_spurious = spurious_vector_;
  std::memcpy(state.apic_isr, in_service_.data(), sizeof in_service_);
  std::memcpy(state.apic_tmr, level_.data(), sizeof level_);
  std::memcpy(state.apic_irr, requested_.data(), sizeof requested_);
  state.apic_esr = error_status_;
  state.apic_error_status = pending_errors_;
  state.apic_icr_high = command_high_;
  state.apic_icr_low = command_low_;
  std::memcpy(state.apic_lvt, lvt_.data(), sizeof lvt_);
  state.apic_initial_count = timer_.initial_count();
  state.apic_counter_value = timer_.remaining_count(now);
  state.apic_divide_configuration = timer_.divide_configuration();
}

bool LocalApic::restore(const hv_local_interrupt_controller_state& state, std::uint64_t now) {
  constexpr std::uint32_t kErrors = kSendIllegalVector | kReceiveIllegalVector | kIllegalRegister;
  const std::uint32_t logical = is_x2apic() ? logical_destination() : state.apic_ldr & 0xff000000;
  if (state.apic_id != *read_register(number(Register::Id), now) || state.apic_version != kVersion ||
      state.apic_ldr != logical || ~state.apic_dfr & 0x0fffffff || state.apic_spurious & ~kSpuriousBits ||
      (state.apic_esr | state.apic_error_status) & ~kErrors || state.apic_icr_low & ~kCommandBits ||
      (!is_x2apic() && state.apic_icr_high & 0x00ffffff) || state.apic_lvt_cmci || state.apic_remote_read) {
    return false;
  }
  // Vectors below 16 are refused on their way in.
  if ((state.apic_isr[0] | state.apic_tmr[0] | state.apic_irr[0]) & 0xffff) return false;
  for (unsigned index = 0; index < kLvtCount; ++index) {
    const std::uint32_t entry = state.apic_lvt[index];
    const bool masked = entry & kMasked;
    if (entry & ~kLvtBits[index] || (!masked && !(state.apic_spurious & kSoftwareEnabled))) return false;
  }
  const ApicTimerMode mode = timer_mode(state.apic_lvt[kTimer]);
  if (!timer_.can_be(mode, state.apic_initial_count, state.apic_divide_configuration, state.apic_counter_value)) {
    return false;
  }
  timer_.set(mode, state.apic_initial_count, state.apic_divide_configuration, state.apic_counter_value, now);
  if (!is_x2apic()) logical_destination_ = logical;
  destination_format_ = state.apic_dfr;
  spurious_vector_ = state.apic_spurious;
  std::memcpy(in_service_.data(), state.apic_isr, sizeof in_service_);
  std::memcpy(level_.data(), state.apic_tmr, sizeof level_);
  std::memcpy(requested_.data(), state.apic_irr, sizeof requested_);
  error_status_ = state.apic_esr;
  pending_errors_ = state.apic_error_status;
  command_high_ = state.apic_icr_high;
  command_low_ = state.apic_icr_low;
  std::memcpy(lvt_.data(), state.apic_lvt, sizeof lvt_);
  return true;
}

}  // namespace bulkhead::hypervisor
