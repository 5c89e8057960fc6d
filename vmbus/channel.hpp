// SPDX-License-Identifier: Apache-2.0
//
// A channel as a provider (VSP) sees it, and a provider as the bus sees it.
//
//                    guest opens ──▶ open ──▶ ┌──────────┐
//                  guest signals ──▶ readable │ provider │ ── receive, send, send_completion ──▶ rings
//    guest closes, offer revoked ──▶ close    └──────────┘ ── close_finished ──▶ memory may go back to the guest
//
// A packet that wants a completion is given out only when the room for the completion is set aside, so the number of
// requests under way is bounded by the guest's own ring, and a completion always fits.
//
// All calls of one bus and its channels come one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "abi/vmbus.hpp"
#include "error/error.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"
#include "vmbus/channel_state.hpp"
#include "vmbus/guest_ranges.hpp"
#include "vmbus/incoming_ring.hpp"
#include "vmbus/outgoing_ring.hpp"
#include "vmbus/packet.hpp"
#include "vmbus/synic_port.hpp"

namespace bulkhead::vmbus {

class Bus;
class Channel;

/// What answers on a channel. It is also asked for the sub-channels of its channel. Lives longer than the bus, or
/// until its channels are gone.
class ChannelProvider {
 public:
  virtual ~ChannelProvider() = default;

  /// Bytes of the largest payload of a completion.
  virtual std::size_t completion_size() const = 0;
  /// The guest opens the channel. From now on `channel` can be read and written. An error refuses.
  virtual Result<> open(Channel& channel) = 0;
  /// There may be packets to receive, or room that was missing.
  virtual void readable(Channel& channel) = 0;
  /// Stop: no more packets. Call channel.close_finished() once nothing touches guest memory on its behalf any more,
  /// here or later.
  virtual void close(Channel& channel) = 0;
  /// The guest wants a list back that is in use: return_gpadl is to follow soon.
  virtual void gpadl_wanted(Channel&, abi::vmbus::GpadlId) {}
  /// The channel is open again after the bus was restored; it may be a new object.
  virtual void restored(Channel&) {}
};

enum class SendStatus : std::uint8_t {
  Sent,
  /// No room: `readable` is called when the guest has made some.
  Full,
  /// Larger than the ring, not open, or the guest has broken the ring.
  Impossible,
};

/// When a sleeping guest hears of a packet.
enum class Notice : std::uint8_t {
  Now,
  Gathered,  // with others, by Channel::signal_gathered
};

class Channel {
 public:
  Channel(Bus& bus, ChannelProvider& provider, abi::vmbus::ChannelId id, std::uint16_t index)
      : bus_(bus), provider_(provider), id_(id), sub_channel_index_(index) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  abi::vmbus::ChannelId id() const { return id_; }
  /// 0: the primary channel.
  std::uint16_t sub_channel_index() const { return sub_channel_index_; }
  ChannelProvider& provider() const { return provider_; }
  bool is_open() const { return rings_.has_value(); }
  abi::VpIndex target_vp() const { return target_vp_; }

  /// The next packet; nothing if there is none or if the room for its completion is missing: wait for `readable`.
  /// Error: the guest has broken the ring, and nothing more will come, or this packet cannot be and was thrown away.
  Result<std::optional<Packet>> receive();
  /// No packet will come before the channel is closed.
  bool is_broken() const { return rings_ && (rings_->incoming.is_broken() || rings_->outgoing.is_broken()); }

  SendStatus send(std::span<const std::uint8_t> payload, bool completion_requested = false,
                  std::uint64_t transaction = 0);
  /// Points the guest to parts of a list that both sides know as `set`.
  SendStatus send_transfer_pages(std::uint16_t set, std::span<const abi::vmbus::TransferPageRange> ranges,
                                 std::span<const std::uint8_t> payload, std::uint64_t transaction);
  /// Completes a received packet that asked for it, once. Error: none is owed, the payload is larger than the provider
  /// said, the channel is closed, or the guest has broken the ring.
  Result<> send_completion(std::uint64_t transaction, std::span<const std::uint8_t> payload,
                           Notice notice = Notice::Now);
  /// One signal for all that was sent with Notice::Gathered since the last one, if they need one. To be called before the
  /// caller lets go of the channel.
  void signal_gathered();
  /// Requests that were received and are not yet completed.
  std::uint32_t owed_completions() const { return owed_completions_; }

  /// Offers `count` more channels for the same provider, with the indices after those there are.
  Result<> offer_sub_channels(std::uint16_t count);
  /// Guest memory that the guest lends to this channel; null if there is no such list. It stays until return_gpadl.
  const GuestRanges* use_gpadl(abi::vmbus::GpadlId gpadl);
  void return_gpadl(abi::vmbus::GpadlId gpadl);
  /// The answer to ChannelProvider::close. The channel may be gone when this returns.
  void close_finished();

 private:
  friend class Bus;
  struct Rings {
    IncomingRing incoming;
    OutgoingRing outgoing;
  };

  void open(Rings rings, abi::VpIndex target_vp);
  void close_rings();
  SendStatus to_guest(WriteStatus status, Notice notice = Notice::Now);
  void signal();
  std::uint32_t completion_room() const;
  state::SavedUnit save() const;
  Result<> restore(const state::SavedUnit& saved);
  void inspect(state::Inspection& node) const;

  Bus& bus_;
  ChannelProvider& provider_;
  const abi::vmbus::ChannelId id_;
  const std::uint16_t sub_channel_index_;
  abi::VpIndex target_vp_ = abi::vmbus::kNoTargetVp;
  std::optional<Rings> rings_;
  bool polling_ = false;         // the guest was told not to signal
  bool to_be_signaled_ = false;  // signal_gathered is to come
  std::uint32_t owed_completions_ = 0;
  std::vector<std::uint8_t> scratch_;
};

}  // namespace bulkhead::vmbus
