// SPDX-License-Identifier: Apache-2.0
//
// Where the machine's interrupt controllers meet its processors.
//
//   PIC output ── "a vector waits" ──▶ processor 0 ── InterruptWindowExit ──▶ acknowledge ──▶ inject
//   IOAPIC ── message ──▶ Partition::send_interrupt ──▶ local APICs ── EoiExit ──▶ IOAPIC
//
// It outlives the partition: a reset takes the old partition off and puts the next one on. While there is none,
// interrupts go nowhere.
#pragma once

#include "engine/engine.hpp"
#include "vdev/ioapic.hpp"
#include "vdev/pic.hpp"

namespace bulkhead::worker {

/// Called with the machine's lock held.
class InterruptBus final : public vdev::InterruptLine,
                           public vdev::InterruptMessageSink,
                           public vdev::LevelMessageListener {
 public:
  void connect(engine::Partition& partition, engine::VirtualProcessor& processor_0) {
    partition_ = &partition;
    processor_0_ = &processor_0;
  }
  void disconnect() {
    partition_ = nullptr;
    processor_0_ = nullptr;
  }

  /// The processor can take an interrupt: gives it the PIC's vector, if that still has one, and asks for the next
  /// window if there are more.
  Result<> open_window(engine::VirtualProcessor& vp, vdev::Pic& pic) {
    if (!pic.output()) return {};
    auto injected = vp.inject_external_interrupt(pic.acknowledge());
    if (injected && pic.output()) vp.request_interrupt_window(true);
    return injected;
  }

  /// The PIC's output.
  void set_level(bool high) override {
    if (processor_0_) processor_0_->request_interrupt_window(high);
  }
  void send(abi::InterruptMessage message) override {
    if (partition_) partition_->send_interrupt(message);
  }
  void set_level_messages(std::span<const abi::InterruptMessage> messages) override {
    if (partition_) partition_->set_level_messages(messages);
  }

 private:
  engine::Partition* partition_ = nullptr;
  engine::VirtualProcessor* processor_0_ = nullptr;
};

}  // namespace bulkhead::worker
