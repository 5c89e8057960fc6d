// SPDX-License-Identifier: Apache-2.0
#include "vdev/uart16550.hpp"

#include <algorithm>

namespace bulkhead::vdev {
namespace {

// Interrupt enable.
constexpr std::uint8_t kEnableReceived = 1 << 0;
constexpr std::uint8_t kEnableTransmitterEmpty = 1 << 1;
constexpr std::uint8_t kEnableLineStatus = 1 << 2;
constexpr std::uint8_t kEnableModemStatus = 1 << 3;
// Interrupt identification, in falling priority.
constexpr std::uint8_t kIdentifyLineStatus = 0x06;
constexpr std::uint8_t kIdentifyReceived = 0x04;
constexpr std::uint8_t kIdentifyCharacterTimeout = 0x0c;
constexpr std::uint8_t kIdentifyTransmitterEmpty = 0x02;
constexpr std::uint8_t kIdentifyModemStatus = 0x00;
constexpr std::uint8_t kIdentifyNone = 0x01;
// FIFO control.
constexpr std::uint8_t kFifoEnable = 1 << 0;
constexpr std::uint8_t kFifoClearReceive = 1 << 1;
constexpr std::uint8_t kFifoClearTransmit = 1 << 2;
constexpr std::uint8_t kFifoKept = 0xc9;  // trigger level, DMA mode, enable
// Modem control.
constexpr std::uint8_t kModemDtr = 1 << 0;
constexpr std::uint8_t kModemRts = 1 << 1;
constexpr std::uint8_t kModemOut1 = 1 << 2;
constexpr std::uint8_t kModemOut2 = 1 << 3;
// Line status.
constexpr std::uint8_t kLineDataReady = 1 << 0;
constexpr std::uint8_t kLineOverrun = 1 << 1;
constexpr std::uint8_t kLineBreak = 1 << 4;
constexpr std::uint8_t kLineErrors = 0x1e;
constexpr std::uint8_t kLineHoldingEmpty = 1 << 5;
constexpr std::uint8_t kLineTransmitterEmpty = 1 << 6;
// Modem status, upper half.
constexpr std::uint8_t kModemCts = 1 << 4;
constexpr std::uint8_t kModemDsr = 1 << 5;
constexpr std::uint8_t kModemRing = 1 << 6;
constexpr std::uint8_t kModemCarrier = 1 << 7;

}  // namespace

void Uart16550::Fifo::drop(std::size_t number) {
  std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(number), bytes.begin() + static_cast<std::ptrdiff_t>(count),
            bytes.begin());
  count -= number;
}

Uart16550::Uart16550(std::string name, std::uint16_t base, InterruptLine& line, SerialBackend& backend)
    : name_(std::move(name)), ports_{{{base, static_cast<std::uint16_t>(base + 7)}}}, line_(line), backend_(backend) {}

std::size_t Uart16550::receive(std::span<const std::uint8_t> bytes) {
  if (!running_ || !takes_input()) return 0;
  const std::size_t room = capacity() - std::min(capacity(), registers_.received.count);
  const std::size_t taken = std::min(bytes.size(), room);
  for (std::uint8_t byte : bytes.first(taken)) registers_.received.push(byte);
  update_line();
  return taken;
}

bool Uart16550::receive_break() {
  if (!running_ || !takes_input() || registers_.received.count > 0) return false;
  registers_.received.push(0);
  registers_.line_errors |= kLineBreak;
  update_line();
  return true;
}

void Uart16550::transmit_ready() {
  if (!running_) return;
  drain_transmitter();
  update_line();
}

void Uart16550::start() {
  running_ = true;
  transmit_ready();
  if (takes_input() && registers_.received.count < capacity()) backend_.receive_ready();
}

void Uart16550::reset() {
  registers_ = Registers();
  update_line();
}

std::uint8_t Uart16550::read_byte(std::uint16_t port) {
  switch (port - ports_[0].first) {
    case 0: return divisor_access() ? static_cast<std::uint8_t>(registers_.divisor) : read_receive_buffer();
    case 1: return divisor_access() ? static_cast<std::uint8_t>(registers_.divisor >> 8) : registers_.interrupt_enable;
    case 2: return read_interrupt_identification();
    case 3: return registers_.line_control;
    case 4: return registers_.modem_control;
    case 5: return read_line_status();
    case 6: return read_modem_status();
    default: return registers_.scratch;
  }
}

void Uart16550::write_byte(std::uint16_t port, std::uint8_t value) {
  switch (port - ports_[0].first) {
    case 0:
      if (divisor_access()) {
        registers_.divisor = static_cast<std::uint16_t>((registers_.divisor & 0xff00) | value);
      } else {
        write_transmit_holding(value);
      }
      break;
    case 1:
      if (divisor_access()) {
        registers_.divisor = static_cast<std::uint16_t>((registers_.divisor & 0x00ff) | value << 8);
      } else {
        write_interrupt_enable(value);
      }
      break;
    case 2: write_fifo_control(value); break;
    case 3: registers_.line_control = value; break;
    case 4: write_modem_control(value); break;
    case 7: registers_.scratch = value; break;
    default: break;  // line and modem status are read-only
  }
}

std::uint8_t Uart16550::read_receive_buffer() {
  Fifo& received = registers_.received;
  if (received.count == 0) return 0;
  const std::uint8_t byte = received.bytes[0];
  received.drop(1);
  update_line();
  // Last, since the backend may at once deliver what it holds back.
  if (received.count == 0 && running_) backend_.receive_ready();
  return byte;
}

std::uint8_t Uart16550::read_interrupt_identification() {
  const std::uint8_t pending = pending_interrupt();
  if (pending == kIdentifyTransmitterEmpty) {
    registers_.transmitter_empty_pending = false;
    update_line();
  }
  return pending | (fifos_enabled() ? 0xc0 : 0);
}

std::uint8_t Uart16550::line_status() const {
  std::uint8_t status = registers_.line_errors;
  if (registers_.received.count > 0) status |= kLineDataReady;
  if (registers_.to_transmit.count == 0) status |= kLineHoldingEmpty | kLineTransmitterEmpty;
  return status;
}

std::uint8_t Uart16550::read_line_status() {
  const std::uint8_t status = line_status();
  registers_.line_errors = 0;
  update_line();
  return status;
}

// Outside of loopback a device that is always ready is connected.
std::uint8_t Uart16550::modem_lines() const {
  if (!loopback()) return kModemCarrier | kModemDsr | kModemCts;
  std::uint8_t lines = 0;
  if (registers_.modem_control & kModemRts) lines |= kModemCts;
  if (registers_.modem_control & kModemDtr) lines |= kModemDsr;
  if (registers_.modem_control & kModemOut1) lines |= kModemRing;
  if (registers_.modem_control & kModemOut2) lines |= kModemCarrier;
  return lines;
}

std::uint8_t Uart16550::read_modem_status() {
  const std::uint8_t status = modem_lines() | registers_.modem_deltas;
  registers_.modem_deltas = 0;
  update_line();
  return status;
}

void Uart16550::write_transmit_holding(std::uint8_t value) {
  // The line falls before the byte is sent and rises after it, so that an edge-triggered controller sees both.
  registers_.transmitter_empty_pending = false;
  update_line();
  if (loopback()) {
    if (registers_.received.count < capacity()) {
      registers_.received.push(value);
    } else {
      registers_.line_errors |= kLineOverrun;
    }
    registers_.transmitter_empty_pending = true;
  } else if (registers_.to_transmit.count < capacity()) {
    registers_.to_transmit.push(value);
    drain_transmitter();
  }  // else: the guest did not wait for the transmitter, and its byte is lost as in hardware
  update_line();
}

void Uart16550::drain_transmitter() {
  Fifo& fifo = registers_.to_transmit;
  if (fifo.count == 0) return;
  fifo.drop(std::min(fifo.count, backend_.transmit(fifo.content())));
  if (fifo.count == 0) registers_.transmitter_empty_pending = true;
}

void Uart16550::write_interrupt_enable(std::uint8_t value) {
  const std::uint8_t newly_enabled = value & ~registers_.interrupt_enable;
  registers_.interrupt_enable = value & 0x0f;
  // Enabling the interrupt of an empty transmitter raises it.
  if ((newly_enabled & kEnableTransmitterEmpty) && registers_.to_transmit.count == 0) {
    registers_.transmitter_empty_pending = true;
  }
  update_line();
}

void Uart16550::write_fifo_control(std::uint8_t value) {
  const bool switched = (value ^ registers_.fifo_control) & kFifoEnable;
  const bool had_received = registers_.received.count > 0;
  // Without the enable bit the other bits are not programmed.
  registers_.fifo_control = (value & kFifoEnable) ? value & kFifoKept : 0;
  if (switched || (value & kFifoClearReceive)) registers_.received.count = 0;
  if (switched || (value & kFifoClearTransmit)) {
    if (registers_.to_transmit.count > 0) registers_.transmitter_empty_pending = true;
    registers_.to_transmit.count = 0;
  }
  update_line();
  if (running_ && (switched || (had_received && registers_.received.count == 0))) backend_.receive_ready();
}

void Uart16550::write_modem_control(std::uint8_t value) {
  const std::uint8_t lines_before = modem_lines();
  const bool took_input = takes_input();
  registers_.modem_control = value & 0x1f;
  const std::uint8_t changed = lines_before ^ modem_lines();
  if (changed & kModemCts) registers_.modem_deltas |= 1 << 0;
  if (changed & kModemDsr) registers_.modem_deltas |= 1 << 1;
  if ((changed & kModemRing) && (lines_before & kModemRing)) registers_.modem_deltas |= 1 << 2;
  if (changed & kModemCarrier) registers_.modem_deltas |= 1 << 3;
  update_line();
  if (running_ && !took_input && takes_input() && registers_.received.count < capacity()) backend_.receive_ready();
}

std::size_t Uart16550::receive_trigger() const {
  static constexpr std::array<std::size_t, 4> kTriggers{1, 4, 8, 14};
  return fifos_enabled() ? kTriggers[registers_.fifo_control >> 6] : 1;
}

std::uint8_t Uart16550::pending_interrupt() const {
  const std::uint8_t enabled = registers_.interrupt_enable;
  if ((enabled & kEnableLineStatus) && (registers_.line_errors & kLineErrors)) return kIdentifyLineStatus;
  if ((enabled & kEnableReceived) && registers_.received.count >= receive_trigger()) return kIdentifyReceived;
  // A line without speed: the four character times after which fewer bytes are announced are over at once.
  if ((enabled & kEnableReceived) && registers_.received.count > 0) return kIdentifyCharacterTimeout;
  if ((enabled & kEnableTransmitterEmpty) && registers_.transmitter_empty_pending) return kIdentifyTransmitterEmpty;
  if ((enabled & kEnableModemStatus) && registers_.modem_deltas) return kIdentifyModemStatus;
  return kIdentifyNone;
}

void Uart16550::update_line() {
  // On a PC, OUT2 opens the way from the UART's interrupt output to the controller.
  const bool high = (registers_.modem_control & kModemOut2) && pending_interrupt() != kIdentifyNone;
  if (high == line_high_) return;
  line_high_ = high;
  line_.set_level(high);
}

state::SavedUnit Uart16550::save() const {
  state::SavedUnit saved(1);
  saved.number("interrupt_enable", registers_.interrupt_enable)
      .number("fifo_control", registers_.fifo_control)
      .number("line_control", registers_.line_control)
      .number("modem_control", registers_.modem_control)
      .number("line_errors", registers_.line_errors)
      .number("modem_deltas", registers_.modem_deltas)
      .number("scratch", registers_.scratch)
      .number("divisor", registers_.divisor)
      .number("transmitter_empty_pending", registers_.transmitter_empty_pending)
      .bytes("received", registers_.received.content())
      .bytes("to_transmit", registers_.to_transmit.content());
  return saved;
}

Result<> Uart16550::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name_, 1);
  Registers registers;
  registers.interrupt_enable = static_cast<std::uint8_t>(reader.number("interrupt_enable", 0x0f));
  registers.fifo_control = static_cast<std::uint8_t>(reader.number("fifo_control", kFifoKept) & kFifoKept);
  registers.line_control = static_cast<std::uint8_t>(reader.number("line_control", 0xff));
  registers.modem_control = static_cast<std::uint8_t>(reader.number("modem_control", 0x1f));
  registers.line_errors = static_cast<std::uint8_t>(reader.number("line_errors", kLineErrors) & kLineErrors);
  registers.modem_deltas = static_cast<std::uint8_t>(reader.number("modem_deltas", 0x0f));
  registers.scratch = static_cast<std::uint8_t>(reader.number("scratch", 0xff));
  registers.divisor = static_cast<std::uint16_t>(reader.number("divisor", 0xffff));
  registers.transmitter_empty_pending = reader.flag("transmitter_empty_pending");
  const std::size_t capacity = (registers.fifo_control & kFifoEnable) ? kFifoSize : 1;
  for (std::uint8_t byte : reader.bytes_up_to("received", capacity)) registers.received.push(byte);
  for (std::uint8_t byte : reader.bytes_up_to("to_transmit", capacity)) registers.to_transmit.push(byte);
  if (auto ok = reader.finish(); !ok) return ok;
  registers_ = registers;
  // The interrupt controllers keep the levels of their inputs themselves.
  line_high_ = (registers_.modem_control & kModemOut2) && pending_interrupt() != kIdentifyNone;
  return {};
}

void Uart16550::inspect(state::Inspection& node) const {
  node.value("interrupt_enable", std::uint64_t{registers_.interrupt_enable})
      .value("fifo_control", std::uint64_t{registers_.fifo_control})
      .value("line_control", std::uint64_t{registers_.line_control})
      .value("modem_control", std::uint64_t{registers_.modem_control})
      .value("line_status", std::uint64_t{line_status()})
      .value("divisor", std::uint64_t{registers_.divisor})
      .value("received", std::uint64_t{registers_.received.count})
      .value("to_transmit", std::uint64_t{registers_.to_transmit.count})
      .value("interrupt", line_high_);
}

}  // namespace bulkhead::vdev
