// SPDX-License-Identifier: Apache-2.0
#include "vdev/pic.hpp"

#include <bit>

namespace bulkhead::vdev {
namespace {

constexpr std::uint8_t kCascadeInput = 1 << 2;
// Inputs whose trigger mode cannot be changed: timer, keyboard, cascade; real-time clock, coprocessor.
constexpr std::uint8_t kMasterLevelMask = 0xf8;
constexpr std::uint8_t kSlaveLevelMask = 0xde;

constexpr std::uint8_t bit(unsigned input) { return static_cast<std::uint8_t>(1u << input); }

}  // namespace

/// The input of highest priority among `inputs`, or -1.
int Pic::Chip::highest(std::uint8_t among) const {
  if (among == 0) return -1;
  const auto rotated = std::rotr(among, highest_priority);
  return (std::countr_zero(rotated) + highest_priority) & 7;
}

/// The input that the chip now asks an acknowledge for, or -1. `cascade` are the inputs with a slave behind them.
int Pic::Chip::pending(std::uint8_t cascade) const {
  if (expecting != Expecting::OperationCommand || !initialized) return -1;
  const int requested = highest(request & static_cast<std::uint8_t>(~mask));
  if (requested < 0) return -1;
  std::uint8_t blocking = in_service;
  if (special_mask) blocking &= static_cast<std::uint8_t>(~mask);
  if (special_fully_nested) blocking &= static_cast<std::uint8_t>(~cascade);
  const int serviced = highest(blocking);
  if (serviced >= 0) {
    // In special mask mode any other input may interrupt, else only one of higher priority.
    if (special_mask ? (blocking & bit(static_cast<unsigned>(requested))) != 0
                     : rank(static_cast<unsigned>(requested)) >= rank(static_cast<unsigned>(serviced))) {
      return -1;
    }
  }
  return requested;
}

void Pic::Chip::set_input(unsigned input, bool high) {
  const std::uint8_t mask_bit = bit(input);
  const bool was_high = inputs & mask_bit;
  if (high) {
    inputs |= mask_bit;
    if (!was_high || (level_triggered & mask_bit)) request |= mask_bit;
  } else {
    inputs &= static_cast<std::uint8_t>(~mask_bit);
    // An edge stays latched: the pulses of emulated devices are shorter than any processor could answer.
    if (level_triggered & mask_bit) request &= static_cast<std::uint8_t>(~mask_bit);
  }
}

/// The chip's part in an INTA cycle.
void Pic::Chip::take(unsigned input) {
  if (!(level_triggered & bit(input))) request &= static_cast<std::uint8_t>(~bit(input));
  if (!automatic_end) {
    in_service |= bit(input);
  } else if (rotate_on_automatic_end) {
    highest_priority = (input + 1) & 7;
  }
}

void Pic::Chip::write_command(std::uint8_t value, std::uint8_t cascade) {
  if (value & 0x10) {
    initialize(value);
  } else if (value & 0x08) {
    if (value & 0x04) poll = true;
    if (value & 0x02) read_in_service = value & 0x01;
    if (value & 0x40) special_mask = value & 0x20;
  } else {
    write_operation_word2(value, cascade);
  }
}

// ICW1 forgets all but the trigger modes and what the inputs are.
void Pic::Chip::initialize(std::uint8_t word1) {
  Chip fresh;
  fresh.level_triggered = level_triggered;
  fresh.inputs = inputs;
  fresh.request = inputs & level_triggered;
  fresh.vector_base = vector_base;
  fresh.single = word1 & 0x02;
  fresh.expects_word4 = word1 & 0x01;
  fresh.expecting = Expecting::InitializationWord2;
  fresh.initialized = true;
  *this = fresh;
}

void Pic::Chip::write_operation_word2(std::uint8_t value, std::uint8_t) {
  const unsigned input = value & 7;
  // A non-specific end is of the input in service that ranks highest; masked ones are passed over in special mask mode.
  const int serviced = highest(special_mask ? in_service & static_cast<std::uint8_t>(~mask) : in_service);
  switch (value >> 5) {
    case 0:
    case 4: rotate_on_automatic_end = value >> 5 == 4; break;
    case 1:
    case 5:
      if (serviced < 0) break;
      end(static_cast<unsigned>(serviced));
      if (value >> 5 == 5) highest_priority = static_cast<std::uint8_t>((serviced + 1) & 7);
      break;
    case 3: end(input); break;
    case 6: highest_priority = (input + 1) & 7; break;
    case 7:
      end(input);
      highest_priority = (input + 1) & 7;
      break;
    default: break;  // 2: no operation
  }
}

void Pic::Chip::write_data(std::uint8_t value) {
  switch (expecting) {
    case Expecting::OperationCommand: mask = value; break;
    case Expecting::InitializationWord2:
      vector_base = value & 0xf8;
      expecting = !single         ? Expecting::InitializationWord3
                  : expects_word4 ? Expecting::InitializationWord4
                                  : Expecting::OperationCommand;
      break;
    case Expecting::InitializationWord3:  // the wiring of the cascade is fixed
      expecting = expects_word4 ? Expecting::InitializationWord4 : Expecting::OperationCommand;
      break;
    case Expecting::InitializationWord4:
      automatic_end = value & 0x02;
      special_fully_nested = value & 0x10;
      expecting = Expecting::OperationCommand;
      break;
  }
}

Pic::Pic(InterruptLine& output) : output_(output) {}

void Pic::set_input(unsigned irq, bool high) {
  if (irq >= 16 || irq == 2) return;
  chip(irq >= 8).set_input(irq & 7, high);
  update();
}

std::uint8_t Pic::acknowledge() {
  const int input = master_.pending(kCascadeInput);
  if (input < 0) return master_.vector_base + 7;
  master_.take(static_cast<unsigned>(input));
  std::uint8_t vector = master_.vector_base + static_cast<std::uint8_t>(input);
  if (input == 2) {
    const int slave_input = slave_.pending(0);
    if (slave_input >= 0) slave_.take(static_cast<unsigned>(slave_input));
    vector = slave_.vector_base + static_cast<std::uint8_t>(slave_input >= 0 ? slave_input : 7);
  }
  update();
  return vector;
}

std::span<const PortRange> Pic::ports() const {
  static constexpr std::array<PortRange, 3> kPorts{{{0x20, 0x21}, {0xa0, 0xa1}, {0x4d0, 0x4d1}}};
  return kPorts;
}

std::uint8_t Pic::read_byte(std::uint16_t port) {
  if (port >= 0x4d0) return chip(port == 0x4d1).level_triggered;
  const bool slave = port & 0x80;
  const Chip& read = chip(slave);
  if (read.poll) return read_poll(slave);
  if (port & 1) return read.mask;
  return read.read_in_service ? read.in_service : read.request;
}

// The poll command makes the next read the acknowledge.
std::uint8_t Pic::read_poll(bool slave) {
  Chip& polled = chip(slave);
  polled.poll = false;
  const int input = polled.pending(cascade(slave));
  if (input < 0) return 0x07;
  polled.take(static_cast<unsigned>(input));
  update();
  return static_cast<std::uint8_t>(0x80 | input);
}

void Pic::write_byte(std::uint16_t port, std::uint8_t value) {
  if (port >= 0x4d0) {
    const bool slave = port == 0x4d1;
    Chip& written = chip(slave);
    const std::uint8_t level = value & (slave ? kSlaveLevelMask : kMasterLevelMask);
    const std::uint8_t now_level = level & static_cast<std::uint8_t>(~written.level_triggered);
    written.level_triggered = level;
    written.request = static_cast<std::uint8_t>((written.request & ~now_level) | (written.inputs & level));
  } else {
    const bool slave = port & 0x80;
    if (port & 1) {
      chip(slave).write_data(value);
    } else {
      chip(slave).write_command(value, cascade(slave));
    }
  }
  update();
}

void Pic::update() {
  // The slave's output is a level, although the master's cascade input is in edge mode for its device.
  const bool slave_output = slave_.pending(0) >= 0;
  master_.inputs =
      static_cast<std::uint8_t>(slave_output ? master_.inputs | kCascadeInput : master_.inputs & ~kCascadeInput);
  master_.request =
      static_cast<std::uint8_t>(slave_output ? master_.request | kCascadeInput : master_.request & ~kCascadeInput);
  const bool high = master_.pending(kCascadeInput) >= 0;
  if (high == output_high_) return;
  output_high_ = high;
  output_.set_level(high);
}

void Pic::reset() {
  master_ = Chip();
  slave_ = Chip();
  update();
}

state::SavedUnit Pic::Chip::save() const {
  state::SavedUnit saved(1);
  saved.number("request", request)
      .number("in_service", in_service)
      .number("mask", mask)
      .number("level_triggered", level_triggered)
      .number("inputs", inputs)
      .number("vector_base", vector_base)
      .number("highest_priority", highest_priority)
      .number("expecting", static_cast<std::uint64_t>(expecting))
      .number("expects_word4", expects_word4)
      .number("single", single)
      .number("automatic_end", automatic_end)
      .number("rotate_on_automatic_end", rotate_on_automatic_end)
      .number("special_mask", special_mask)
      .number("special_fully_nested", special_fully_nested)
      .number("read_in_service", read_in_service)
      .number("poll", poll)
      .number("initialized", initialized);
  return saved;
}

Result<Pic::Chip> Pic::Chip::restore(const state::SavedUnit& saved, std::string_view unit_name) {
  state::SavedReader reader(saved, unit_name, 1);
  const auto byte = [&](std::string_view field, std::uint64_t maximum = 0xff) {
    return static_cast<std::uint8_t>(reader.number(field, maximum));
  };
  Chip chip;
  chip.request = byte("request");
  chip.in_service = byte("in_service");
  chip.mask = byte("mask");
  chip.level_triggered = byte("level_triggered");
  chip.inputs = byte("inputs");
  chip.vector_base = byte("vector_base") & 0xf8;
  chip.highest_priority = byte("highest_priority", 7);
  chip.expecting = static_cast<Expecting>(byte("expecting", 3));
  chip.expects_word4 = reader.flag("expects_word4");
  chip.single = reader.flag("single");
  chip.automatic_end = reader.flag("automatic_end");
  chip.rotate_on_automatic_end = reader.flag("rotate_on_automatic_end");
  chip.special_mask = reader.flag("special_mask");
  chip.special_fully_nested = reader.flag("special_fully_nested");
  chip.read_in_service = reader.flag("read_in_service");
  chip.poll = reader.flag("poll");
  chip.initialized = reader.flag("initialized");
  if (auto ok = reader.finish(); !ok) return std::unexpected(ok.error());
  return chip;
}

void Pic::Chip::inspect(state::Inspection& node) const {
  node.value("request", std::uint64_t{request})
      .value("in_service", std::uint64_t{in_service})
      .value("mask", std::uint64_t{mask})
      .value("level_triggered", std::uint64_t{level_triggered})
      .value("inputs", std::uint64_t{inputs})
      .value("vector_base", std::uint64_t{vector_base})
      .value("initialized", initialized);
}

state::SavedUnit Pic::save() const {
  state::SavedUnit saved(1);
  saved.list("chips", {master_.save(), slave_.save()});
  return saved;
}

Result<> Pic::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto chips = reader.list("chips", 2);
  if (auto ok = reader.finish(); !ok) return ok;
  auto master = Chip::restore(chips[0], "pic's master");
  if (!master) return std::unexpected(master.error());
  auto slave = Chip::restore(chips[1], "pic's slave");
  if (!slave) return std::unexpected(slave.error());
  master->level_triggered &= kMasterLevelMask;
  slave->level_triggered &= kSlaveLevelMask;
  master_ = *master;
  slave_ = *slave;
  update();
  return {};
}

void Pic::inspect(state::Inspection& node) const {
  node.value("output", output_high_);
  master_.inspect(node.child("master"));
  slave_.inspect(node.child("slave"));
}

}  // namespace bulkhead::vdev
