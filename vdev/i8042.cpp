// SPDX-License-Identifier: Apache-2.0
#include "vdev/i8042.hpp"

#include <algorithm>

namespace bulkhead::vdev {
namespace {

constexpr std::uint16_t kDataPort = 0x60;
constexpr std::uint16_t kCommandPort = 0x64;
// Status.
constexpr std::uint8_t kOutputFull = 1 << 0;
constexpr std::uint8_t kSystemFlag = 1 << 2;
constexpr std::uint8_t kLastWasCommand = 1 << 3;
constexpr std::uint8_t kNotLocked = 1 << 4;
constexpr std::uint8_t kTimeout = 1 << 6;
constexpr std::uint8_t kStatusOfByte = kTimeout;  // goes with the byte in the output buffer
// Command byte.
constexpr std::uint8_t kKeyboardInterrupt = 1 << 0;
constexpr std::uint8_t kKeyboardDisabled = 1 << 4;
// Output port.
constexpr std::uint8_t kNoReset = 1 << 0;
constexpr std::uint8_t kA20 = 1 << 1;

constexpr std::uint8_t kResend = 0xfe;  // what a controller puts in place of the answer of a device that gives none

}  // namespace

I8042::I8042(InterruptLine& keyboard_line, MachineControl& machine) : keyboard_line_(keyboard_line), machine_(machine) {
  reset();
}

std::span<const PortRange> I8042::ports() const {
  static constexpr std::array<PortRange, 2> kPorts{{{kDataPort, kDataPort}, {kCommandPort, kCommandPort}}};
  return kPorts;
}

void I8042::reset() {
  status_ = kNotLocked;
  output_ = 0;
  command_byte_ = kKeyboardDisabled;
  output_port_ = kNoReset | kA20;
  awaited_command_ = 0;
  memory_.fill(0);
  update_line();
}

std::uint8_t I8042::read_byte(std::uint16_t port) {
  if (port == kCommandPort) return status_ | (command_byte_ & kSystemFlag);
  status_ &= static_cast<std::uint8_t>(~(kOutputFull | kStatusOfByte));
  update_line();
  return output_;
}

void I8042::write_byte(std::uint16_t port, std::uint8_t value) {
  if (port == kCommandPort) {
    status_ |= kLastWasCommand;
    awaited_command_ = 0;
    write_command(value);
  } else {
    status_ &= static_cast<std::uint8_t>(~kLastWasCommand);
    write_data(value);
  }
}

void I8042::write_command(std::uint8_t command) {
  if (command >= 0x20 && command <= 0x3f) return answer(command == 0x20 ? command_byte_ : memory_[command & 0x1f]);
  // F0 to FF: the low bits of the output port that are 0 in the command are pulsed low.
  if (command >= 0xf0) {
    if (!(command & kNoReset)) machine_.request_reset("keyboard controller");
    return;
  }
  switch (command) {
    case 0xa9:  // test of the second port: its clock line is stuck, there is none
      return answer(0x01);
    case 0xaa:  // self test
      command_byte_ |= kSystemFlag;
      return answer(0x55);
    case 0xab:  // test of the first port
      return answer(0x00);
    case 0xad: command_byte_ |= kKeyboardDisabled; break;
    case 0xae: command_byte_ &= static_cast<std::uint8_t>(~kKeyboardDisabled); break;
    case 0xc0:  // input port: keyboard not inhibited
      return answer(0x80);
    case 0xd0: return answer(output_port_);
    case 0xd1:  // write output port
    case 0xd2:  // write as if the keyboard had sent
    case 0xd3:  // write as if the second device had sent
    case 0xd4:  // write to the second device
      awaited_command_ = command;
      break;
    default:
      if (command >= 0x60 && command <= 0x7f) awaited_command_ = command;
      break;  // others do nothing on a controller with one port
  }
  update_line();
}

void I8042::write_data(std::uint8_t value) {
  const std::uint8_t command = awaited_command_;
  awaited_command_ = 0;
  if (command >= 0x60 && command <= 0x7f) {
    if (command == 0x60) {
      command_byte_ = value;
      update_line();
    } else {
      memory_[command & 0x1f] = value;
    }
    return;
  }
  switch (command) {
    case 0xd1: return write_output_port(value);
    case 0xd2: return answer(value);
    case 0xd3:  // what comes back is not what was sent, from which software learns that there is no second port
      return answer(0x00);
    default:  // to a device that is not there
      return answer(kResend, kTimeout);
  }
}

void I8042::write_output_port(std::uint8_t value) {
  output_port_ = value | kNoReset;
  if (!(value & kNoReset)) machine_.request_reset("keyboard controller");
}

void I8042::answer(std::uint8_t value, std::uint8_t status) {
  output_ = value;
  status_ = static_cast<std::uint8_t>((status_ & ~kStatusOfByte) | kOutputFull | status);
  // A second byte before the first was read is a second interrupt.
  if (line_high_) {
    line_high_ = false;
    keyboard_line_.set_level(false);
  }
  update_line();
}

void I8042::update_line() {
  const bool high = (status_ & kOutputFull) && (command_byte_ & kKeyboardInterrupt);
  if (high == line_high_) return;
  line_high_ = high;
  keyboard_line_.set_level(high);
}

state::SavedUnit I8042::save() const {
  state::SavedUnit saved(1);
  saved.number("status", status_)
      .number("output", output_)
      .number("command_byte", command_byte_)
      .number("output_port", output_port_)
      .number("awaited_command", awaited_command_)
      .bytes("memory", memory_);
  return saved;
}

Result<> I8042::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto byte = [&](std::string_view field) { return static_cast<std::uint8_t>(reader.number(field, 0xff)); };
  const auto status = byte("status");
  const auto output = byte("output");
  const auto command_byte = byte("command_byte");
  const auto output_port = byte("output_port");
  const auto awaited_command = byte("awaited_command");
  const auto memory = reader.bytes("memory", memory_.size());
  if (auto ok = reader.finish(); !ok) return ok;
  if (status & ~(kOutputFull | kLastWasCommand | kNotLocked | kStatusOfByte)) {
    return fail("saved state of i8042: the status has bits that cannot be");
  }
  status_ = status;
  output_ = output;
  command_byte_ = command_byte;
  output_port_ = output_port;
  awaited_command_ = awaited_command;
  std::copy(memory.begin(), memory.end(), memory_.begin());
  line_high_ = (status_ & kOutputFull) && (command_byte_ & kKeyboardInterrupt);
  return {};
}

void I8042::inspect(state::Inspection& node) const {
  node.value("status", std::uint64_t{status_})
      .value("output", std::uint64_t{output_})
      .value("command_byte", std::uint64_t{command_byte_})
      .value("output_port", std::uint64_t{output_port_});
}

}  // namespace bulkhead::vdev
