// SPDX-License-Identifier: Apache-2.0
//
// The I/O interrupt controller: Intel 82093AA data sheet, with the end-of-interrupt register of its successors
// (version 0x20; ICH documentation, "EOI Register").
//
//   24 inputs ── redirection table ──▶ InterruptMessage ──▶ local APICs
//                     ▲                                          │
//                     └────── end_of_interrupt(vector) ◀─────────┘   (level-triggered vectors only)
//
// A level-triggered entry sends once and then waits for the end of its interrupt (remote IRR); if its input is still
// high then, it sends again. The polarity bit is kept, and ignored: an input here is "asserted", not a voltage.
#pragma once

#include <array>
#include <vector>

#include "vdev/device.hpp"

namespace bulkhead::vdev {

/// Who must know which messages are level-triggered, because it reports their end.
class LevelMessageListener {
 public:
  virtual ~LevelMessageListener() = default;
  /// All level-triggered messages that can be sent, or whose end is awaited. Called when they change.
  virtual void set_level_messages(std::span<const InterruptMessage> messages) = 0;
};

class IoApic final : public MmioDevice, public state::StateUnit {
 public:
  static constexpr unsigned kInputCount = 24;
  static constexpr std::uint64_t kBase = 0xfec0'0000;

  IoApic(InterruptMessageSink& sink, LevelMessageListener& listener);

  /// `input` is below kInputCount.
  void set_input(unsigned input, bool high);
  /// A processor ended a level-triggered interrupt with this vector.
  void end_of_interrupt(std::uint8_t vector);

  std::span<const MmioRange> mmio_ranges() const override;
  std::uint64_t read_mmio(std::size_t range, std::uint64_t offset, unsigned size) override;
  void write_mmio(std::size_t range, std::uint64_t offset, unsigned size, std::uint64_t value) override;

  std::string_view name() const override { return "ioapic"; }
  void start() override { tell_level_messages(); }
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  std::uint32_t read_register() const;
  void write_register(std::uint32_t value);
  void write_entry(unsigned input, std::uint64_t entry);
  void send(unsigned input);
  void send_if_asserted(unsigned input);
  void level_messages_changed();
  void tell_level_messages();

  InterruptMessageSink& sink_;
  LevelMessageListener& listener_;
  std::uint8_t selected_register_ = 0;
  std::uint8_t identifier_ = 0;
  std::uint32_t inputs_ = 0;
  std::array<std::uint64_t, kInputCount> entries_;
  std::vector<InterruptMessage> level_messages_;  // as last told
};

}  // namespace bulkhead::vdev
