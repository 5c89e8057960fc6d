// SPDX-License-Identifier: Apache-2.0
//
// The sixteen interrupt lines of the ISA bus. Each goes to both interrupt controllers; the guest chooses which one it
// listens to. The timer, IRQ 0, is wired to input 2 of the IOAPIC (the MADT tells the guest), since input 0 is the
// place of the PIC's own output on a PC. IRQ 2 is the cascade inside the PIC and no line.
//
//   IRQ n ──┬──▶ PIC input n
//           └──▶ IOAPIC input n   (IRQ 0: input 2)
#pragma once

#include <array>

#include "vdev/device.hpp"
#include "vdev/ioapic.hpp"
#include "vdev/pic.hpp"

namespace bulkhead::vdev {

class IsaInterrupts {
 public:
  static constexpr unsigned kLineCount = 16;

  IsaInterrupts(Pic& pic, IoApic& ioapic) {
    for (unsigned irq = 0; irq < kLineCount; ++irq) lines_[irq].connect(pic, ioapic, irq);
  }
  IsaInterrupts(const IsaInterrupts&) = delete;
  IsaInterrupts& operator=(const IsaInterrupts&) = delete;

  /// `irq` is below 16 and not 2.
  InterruptLine& line(unsigned irq) { return lines_.at(irq); }

 private:
  class Line final : public InterruptLine {
   public:
    void connect(Pic& pic, IoApic& ioapic, unsigned irq) {
      pic_ = &pic;
      ioapic_ = &ioapic;
      irq_ = irq;
    }
    void set_level(bool high) override {
      pic_->set_input(irq_, high);
      ioapic_->set_input(irq_ == 0 ? 2 : irq_, high);
    }

   private:
    Pic* pic_ = nullptr;
    IoApic* ioapic_ = nullptr;
    unsigned irq_ = 0;
  };

  std::array<Line, kLineCount> lines_;
};

}  // namespace bulkhead::vdev
