// SPDX-License-Identifier: Apache-2.0
//
// Messages that wait for the guest's message slot. A guest may be slow, or never take any: the host accepts nothing
// more from it while kBacklog answers wait (the guest's post then fails with "insufficient buffers" and it tries
// again), and what the host says by itself, offers and their ends, is bounded by kMaximum.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "abi/vmbus.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"
#include "vmbus/synic_port.hpp"

namespace bulkhead::vmbus {

class MessageQueue {
 public:
  static constexpr std::size_t kBacklog = 64;
  /// An offer and its end for each channel that can be, and the backlog.
  static constexpr std::size_t kMaximum = 2 * (abi::vmbus::kMaximumChannelId + kBacklog);

  explicit MessageQueue(SynicPort& port) : port_(port) {}

  /// Appends a message and delivers what can be. A message beyond kMaximum is dropped and counted.
  void push(abi::VpIndex vp, std::span<const std::uint8_t> message);
  /// Delivers messages until the slot is full or none is left.
  void deliver();
  void clear() { waiting_.clear(); }

  bool has_backlog() const { return waiting_.size() >= kBacklog; }
  std::size_t size() const { return waiting_.size(); }
  std::uint64_t dropped() const { return dropped_; }

  state::SavedList save() const;
  Result<> restore(const state::SavedList& saved);

 private:
  struct Waiting {
    abi::VpIndex vp;
    abi::SynicMessage message;
  };

  SynicPort& port_;
  std::deque<Waiting> waiting_;
  std::uint64_t dropped_ = 0;
};

}  // namespace bulkhead::vmbus
