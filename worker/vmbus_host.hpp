// SPDX-License-Identifier: Apache-2.0
//
// Where VMBus meets the machine's processors:
//
//   Bus ── SynicPort ──▶ Partition::post_message, signal_event
//   Bus ◀── the machine's lock ◀── SynicListener ◀── a processor's thread: hypercalls, EOM
//
// It outlives the partition, as InterruptBus does: while there is none, messages wait and signals are lost.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "engine/engine.hpp"
#include "vmbus/bus.hpp"
#include "vsp/integration/time_synchronization.hpp"
#include "worker/handover.hpp"

namespace bulkhead::worker {

class VmbusHost final : public vsp::integration::ReferenceTime,
                        private vmbus::SynicPort,
                        private engine::SynicListener {
 public:
  /// `handover`: how what providers post from the processors' threads comes to their event loop.
  VmbusHost(std::mutex& machine_lock, std::unique_ptr<Handover> handover, const engine::GuestMemory& memory,
            std::uint32_t vp_count)
      : machine_lock_(machine_lock), handover_(std::move(handover)), bus_(memory, *this, vp_count) {}

  /// With the machine's lock held, as all calls of the bus.
  vmbus::Bus& bus() { return bus_; }
  /// Before the partition's processors run.
  void connect(engine::Partition& partition) {
    partition_ = &partition;
    partition.set_synic_listener(this);
  }
  void disconnect() { partition_ = nullptr; }

  std::optional<std::uint64_t> reference_time() const override {
    return partition_ != nullptr ? partition_->reference_time() : std::nullopt;
  }

 private:
  vmbus::PostStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) override;
  void signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) override;

  std::uint16_t message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                               std::span<const std::uint8_t> payload) override;
  std::uint16_t event_signaled(abi::ConnectionId connection, std::uint16_t flag) override;
  void message_slot_freed(abi::VpIndex vp) override;

  std::mutex& machine_lock_;
  std::unique_ptr<Handover> handover_;
  engine::Partition* partition_ = nullptr;
  vmbus::Bus bus_;
};

}  // namespace bulkhead::worker
