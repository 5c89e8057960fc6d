// SPDX-License-Identifier: Apache-2.0
//
// A serial port: National Semiconductor PC16550D, "Universal Asynchronous Receiver/Transmitter with FIFOs".
//
// The line has no speed: a byte that the backend takes has been sent. Both directions have flow control instead of a
// baud rate, so that nothing is lost and nothing piles up:
//
//   guest ── THR ──▶ transmit FIFO (16) ── transmit ──▶ backend      stays in the FIFO until the backend has room
//   guest ◀── RBR ── receive FIFO (16) ◀── receive ──── backend      takes what fits; receive_ready asks for more
//
// Nothing is received until the guest requests to send (RTS), which it does when it opens the port. What is typed or
// piped in before that waits, instead of being lost when the guest sets the port up.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

/// The other end of the serial line. It may be called from within Uart16550::receive and transmit_ready.
class SerialBackend {
 public:
  virtual ~SerialBackend() = default;
  /// The guest sends. Gives how many of the bytes were taken; if not all, calls Uart16550::transmit_ready later.
  virtual std::size_t transmit(std::span<const std::uint8_t> bytes) = 0;
  /// The UART has room again after the guest emptied its receive FIFO.
  virtual void receive_ready() = 0;
};

class Uart16550 final : public BytePortDevice, public state::StateUnit {
 public:
  static constexpr std::size_t kFifoSize = 16;
  static constexpr std::uint16_t kCom1 = 0x3f8;  // IRQ 4
  static constexpr std::uint16_t kCom2 = 0x2f8;  // IRQ 3

  /// `base` is the first of eight ports. The line and the backend must live longer than the UART.
  Uart16550(std::string name, std::uint16_t base, InterruptLine& line, SerialBackend& backend);

  /// Bytes arrive on the line. Gives how many were taken: none while stopped, in loopback or without RTS.
  /// SerialBackend::receive_ready is called when it is worth to offer the rest.
  std::size_t receive(std::span<const std::uint8_t> bytes);
  /// A break arrives on the line. False if the guest has not read all that came before it; offer it again.
  bool receive_break();
  /// The backend has room again.
  void transmit_ready();

  std::span<const PortRange> ports() const override { return ports_; }

  std::string_view name() const override { return name_; }
  void start() override;
  void stop() override { running_ = false; }
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  struct Fifo {
    std::array<std::uint8_t, kFifoSize> bytes{};
    std::size_t count = 0;

    void push(std::uint8_t byte) { bytes[count++] = byte; }
    void drop(std::size_t number);
    std::span<const std::uint8_t> content() const { return std::span(bytes).first(count); }
  };
  struct Registers {
    std::uint8_t interrupt_enable = 0;
    std::uint8_t fifo_control = 0;
    std::uint8_t line_control = 0;
    std::uint8_t modem_control = 0;
    std::uint8_t line_errors = 0;   // bits 1 to 4 of the line status
    std::uint8_t modem_deltas = 0;  // bits 0 to 3 of the modem status
    std::uint8_t scratch = 0;
    std::uint16_t divisor = 12;  // 9600 baud
    bool transmitter_empty_pending = false;
    Fifo received;
    Fifo to_transmit;
  };

  std::uint8_t read_byte(std::uint16_t port) override;
  void write_byte(std::uint16_t port, std::uint8_t value) override;

  std::uint8_t read_receive_buffer();
  std::uint8_t read_interrupt_identification();
  std::uint8_t read_line_status();
  std::uint8_t read_modem_status();
  std::uint8_t line_status() const;
  std::uint8_t modem_lines() const;
  void write_transmit_holding(std::uint8_t value);
  void write_interrupt_enable(std::uint8_t value);
  void write_fifo_control(std::uint8_t value);
  void write_modem_control(std::uint8_t value);

  bool loopback() const { return registers_.modem_control & 0x10; }
  bool takes_input() const { return (registers_.modem_control & 0x12) == 0x02; }  // RTS, and no loopback
  bool fifos_enabled() const { return registers_.fifo_control & 1; }
  bool divisor_access() const { return registers_.line_control & 0x80; }
  std::size_t capacity() const { return fifos_enabled() ? kFifoSize : 1; }
  std::size_t receive_trigger() const;
  std::uint8_t pending_interrupt() const;
  void drain_transmitter();
  void update_line();

  const std::string name_;
  const std::array<PortRange, 1> ports_;
  InterruptLine& line_;
  SerialBackend& backend_;
  bool running_ = false;
  bool line_high_ = false;
  Registers registers_;
};

}  // namespace bulkhead::vdev
