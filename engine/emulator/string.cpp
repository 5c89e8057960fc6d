// SPDX-License-Identifier: Apache-2.0
//
// String instructions. Each repetition is complete in itself: the registers are then as if an interrupt came between,
// and RIP stays at the instruction until the last one.
#include "engine/emulator/emulator.hpp"

namespace bulkhead::engine::emulator {
namespace {
constexpr unsigned kAccumulator = 0, kCounter = 1, kData = 2, kSource = 6, kDestination = 7;
}

void Emulator::advance_pointer(unsigned number) {
  const std::uint64_t step = instruction_->size;
  const std::uint64_t value = state_->general[number] + ((state_->rflags & kDirection) ? 0 - step : step);
  set_register(number, instruction_->address_size, value);
}

bool Emulator::execute_string() {
  const unsigned address_size = instruction_->address_size;
  const bool repeats = instruction_->repeat != Repeat::None;
  if (repeats && register_part(kCounter, address_size) == 0) {
    finish();
    return true;
  }
  for (;;) {
    if (!execute_repetition()) return false;
    recorded_ = position_ = 0;
    bool is_last = !repeats;
    if (repeats) {
      const std::uint64_t left = register_part(kCounter, address_size) - 1;
      set_register(kCounter, address_size, left);
      is_last = left == 0;
      if (instruction_->operation == Operation::Scas || instruction_->operation == Operation::Cmps) {
        const bool equal = state_->rflags & kZero;
        is_last = is_last || equal != (instruction_->repeat == Repeat::Equal);
      }
    }
    if (is_last) {
      finish();
      return true;
    }
    // The processor itself goes on where no device is touched, and takes the interrupts that wait.
    const bool single_step = state_->rflags & kTrap;
    const bool goes_on = touched_device_ && !single_step && ++repetitions_ < kRepetitionsAtOnce;
    touched_device_ = false;
    if (!goes_on) {
      step_ = Completed{.single_step = single_step};
      return true;
    }
  }
}

bool Emulator::execute_repetition() {
  switch (instruction_->operation) {
    case Operation::Scas:
    case Operation::Cmps: return compare_string();
    case Operation::Ins:
    case Operation::Outs: return port_string();
    default: return move_string();
  }
}

bool Emulator::move_string() {
  const unsigned size = instruction_->size, address_size = instruction_->address_size;
  const Operation operation = instruction_->operation;
  const bool from_memory = operation != Operation::Stos, to_memory = operation != Operation::Lods;
  Location from, to;
  // Both places first, so that nothing was read from a device when the destination faults.
  if (from_memory && !locate(instruction_->segment, register_part(kSource, address_size), size, false, from))
    return false;
  if (to_memory && !locate(kEs, register_part(kDestination, address_size), size, true, to)) return false;
  std::uint64_t value = state_->general[kAccumulator];
  if (from_memory && !load(from, value)) return false;
  if (to_memory && !store(to, value)) return false;
  if (!to_memory) set_register(kAccumulator, size, value);
  if (from_memory) advance_pointer(kSource);
  if (to_memory) advance_pointer(kDestination);
  return true;
}

bool Emulator::compare_string() {
  const unsigned size = instruction_->size, address_size = instruction_->address_size;
  const bool from_memory = instruction_->operation == Operation::Cmps;
  Location first, second;
  if (from_memory && !locate(instruction_->segment, register_part(kSource, address_size), size, false, first))
    return false;
  if (!locate(kEs, register_part(kDestination, address_size), size, false, second)) return false;
  std::uint64_t left = register_part(kAccumulator, size), right = 0;
  if (from_memory && !load(first, left)) return false;
  if (!load(second, right)) return false;
  state_->rflags = subtract(left, right, false, size, state_->rflags).flags;
  if (from_memory) advance_pointer(kSource);
  advance_pointer(kDestination);
  return true;
}

bool Emulator::port_string() {
  const unsigned size = instruction_->size, address_size = instruction_->address_size;
  const auto port = static_cast<std::uint16_t>(state_->general[kData]);
  const bool is_input = instruction_->operation == Operation::Ins;
  const unsigned pointer = is_input ? kDestination : kSource;
  Location place;
  if (!locate(is_input ? static_cast<unsigned>(kEs) : instruction_->segment, register_part(pointer, address_size), size,
              is_input, place))
    return false;
  std::uint64_t value = 0;
  if (is_input) {
    if (!read_port(port, size, value) || !store(place, value)) return false;
  } else {
    if (!load(place, value) || !write_port(port, size, value)) return false;
  }
  advance_pointer(pointer);
  return true;
}

}  // namespace bulkhead::engine::emulator
