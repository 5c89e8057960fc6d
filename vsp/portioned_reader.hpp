// SPDX-License-Identifier: Apache-2.0
//
// Takes the packets of a channel in portions: a guest that writes them as fast as they are read gets its turn, and so
// does the rest of the machine, whose lock is held meanwhile.
#pragma once

#include <functional>
#include <memory>

#include "state/clock.hpp"
#include "vmbus/channel.hpp"

namespace bulkhead::vsp {

class PortionedReader {
 public:
  /// `take` gets each packet, or what was wrong with one that was thrown away; it may call `stop`.
  using Take = std::function<void(Result<vmbus::Packet>)>;

  PortionedReader(state::Clock& clock, Take take);

  /// Takes a portion; what is left is taken a little later. For ChannelProvider::readable.
  void read(vmbus::Channel& channel);
  /// The channel is closed: forgets it.
  void stop();
  /// Looks for packets of this channel soon.
  void resume(vmbus::Channel& channel);

 private:
  state::Clock& clock_;
  Take take_;
  std::unique_ptr<state::Timer> timer_;
  vmbus::Channel* channel_ = nullptr;  // whose packets are being taken, or are to be
};

}  // namespace bulkhead::vsp
