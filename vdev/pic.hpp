// SPDX-License-Identifier: Apache-2.0
//
// The two cascaded Intel 8259A interrupt controllers of a PC, with the edge/level registers of EISA.
//
//   IRQ 8..15 ──▶ slave (A0, A1, 4D1) ──▶ input 2
//   IRQ 0,1,3..7 ───────────────────────▶ master (20, 21, 4D0) ──▶ output ──▶ LINT0 of processor 0
//
// The processor's answer to the output, the INTA cycle, is `acknowledge`.
#pragma once

#include <array>

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

class Pic final : public BytePortDevice, public state::StateUnit {
 public:
  /// `output` is high while an interrupt waits to be acknowledged.
  explicit Pic(InterruptLine& output);

  /// `irq` is 0 to 15; 2 is the cascade and ignored.
  void set_input(unsigned irq, bool high);
  /// The INTA cycle: the vector. If the request has gone meanwhile it is the spurious one, IRQ 7 (or 15 of the slave).
  std::uint8_t acknowledge();
  bool output() const { return output_high_; }

  std::span<const PortRange> ports() const override;

  std::string_view name() const override { return "pic"; }
  void start() override {}
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  enum class Expecting : std::uint8_t {
    OperationCommand,
    InitializationWord2,
    InitializationWord3,
    InitializationWord4
  };

  /// One 8259A. Register names as in its data sheet.
  struct Chip {
    std::uint8_t request = 0;          // IRR
    std::uint8_t in_service = 0;       // ISR
    std::uint8_t mask = 0;             // IMR
    std::uint8_t level_triggered = 0;  // ELCR
    std::uint8_t inputs = 0;
    std::uint8_t vector_base = 0;
    std::uint8_t highest_priority = 0;  // the input that comes first
    Expecting expecting = Expecting::OperationCommand;
    bool expects_word4 = false;
    bool single = false;
    bool automatic_end = false;
    bool rotate_on_automatic_end = false;
    bool special_mask = false;
    bool special_fully_nested = false;
    bool read_in_service = false;
    bool poll = false;
    bool initialized = false;

    unsigned rank(unsigned input) const { return (input - highest_priority) & 7; }
    int highest(std::uint8_t inputs) const;
    int pending(std::uint8_t cascade) const;
    void set_input(unsigned input, bool high);
    void take(unsigned input);
    void end(unsigned input) { in_service = static_cast<std::uint8_t>(in_service & ~(1u << input)); }
    void write_command(std::uint8_t value, std::uint8_t cascade);
    void initialize(std::uint8_t word1);
    void write_operation_word2(std::uint8_t value, std::uint8_t cascade);
    void write_data(std::uint8_t value);
    state::SavedUnit save() const;
    static Result<Chip> restore(const state::SavedUnit& saved, std::string_view unit_name);
    void inspect(state::Inspection& node) const;
  };

  std::uint8_t read_byte(std::uint16_t port) override;
  void write_byte(std::uint16_t port, std::uint8_t value) override;

  Chip& chip(bool slave) { return slave ? slave_ : master_; }
  static constexpr std::uint8_t cascade(bool slave) { return slave ? 0 : 1u << 2; }
  std::uint8_t read_poll(bool slave);
  void update();

  InterruptLine& output_;
  bool output_high_ = false;
  Chip master_;
  Chip slave_;
};

}  // namespace bulkhead::vdev
