// SPDX-License-Identifier: Apache-2.0
//
// VMBus's control plane: a pure state machine. The guest's messages and the host's wishes go in, actions come out. It
// does no I/O, calls nobody back and never waits.
//
//   guest's messages ──▶ ┌───────────────┐ ──▶ Send, DiscardMessages                 (to the message queue)
//   offer, revoke ─────▶ │ ControlPlane  │ ──▶ Open, Close, Retarget, GpadlWanted    (to the channel's provider)
//   *_finished, reset ─▶ └───────────────┘ ──▶ Gone                                  (the id may be used again)
//
// The connection:   Disconnected ── INITIATE_CONTACT ──▶ Connected ── REQUEST_OFFERS ──▶ OffersDelivered
//                         ▲                                  │ UNLOAD, another contact, reset     │
//                         └──────────── Disconnecting ◀──────┴────────────────────────────────────┘
//                            (host's: providers still let go of guest memory)
//
// A message that breaks the protocol changes nothing; it is counted, and the last one's fault is kept for people.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "abi/vmbus.hpp"
#include "error/error.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"
#include "vmbus/channel_state.hpp"
#include "vmbus/gpadl.hpp"

namespace bulkhead::vmbus {

enum class ConnectionState : std::uint8_t { Disconnected, Connected, OffersDelivered, Disconnecting };

/// Put this message into the queue for the guest.
struct Send {
  abi::VpIndex target_vp;
  std::vector<std::uint8_t> message;
};
/// Forget the messages that still wait: they were for a connection that is no more.
struct DiscardMessages {};
/// The guest opens the channel; `open_finished` is to follow.
struct Open {
  abi::vmbus::ChannelId channel;
};
/// Stop using the channel's rings and memory; `close_finished` is to follow.
struct Close {
  abi::vmbus::ChannelId channel;
};
/// The guest wants the channel's interrupts on another VP.
struct Retarget {
  abi::vmbus::ChannelId channel;
  abi::VpIndex target_vp;
};
/// The guest wants a list back that the provider uses.
struct GpadlWanted {
  abi::vmbus::ChannelId channel;
  abi::vmbus::GpadlId gpadl;
};
/// The channel is no more.
struct Gone {
  abi::vmbus::ChannelId channel;
};
using Action = std::variant<Send, DiscardMessages, Open, Close, Retarget, GpadlWanted, Gone>;

class ControlPlane {
 public:
  explicit ControlPlane(std::uint32_t vp_count) : vp_count_(vp_count) {}

  /// A message that the guest has posted, with its header.
  void handle_message(abi::ConnectionId through, std::span<const std::uint8_t> message);

  /// Offers a channel, with the smallest free id or the wanted one. A guest that has its offers already gets this one
  /// at once. Errors: the wanted id is taken or cannot be, no id is free, an instance that is there already.
  Result<abi::vmbus::ChannelId> offer(const OfferParameters& parameters,
                                      std::optional<abi::vmbus::ChannelId> wanted = std::nullopt);
  /// Offers another channel of an open primary. Errors: the primary is not open, no id is free, the index is taken.
  Result<abi::vmbus::ChannelId> offer_sub_channel(abi::vmbus::ChannelId primary, std::uint16_t index);
  /// Takes a channel back, with its sub-channels. `Gone` comes when the guest has let go of it.
  void revoke(abi::vmbus::ChannelId channel);

  /// The answer to Open.
  void open_finished(abi::vmbus::ChannelId channel, bool accepted);
  /// The answer to Close: nothing touches the channel's rings and lists any more.
  void close_finished(abi::vmbus::ChannelId channel);
  /// A provider uses a list of its channel. Null: there is no such list, or the guest has asked for it back.
  const GuestRanges* use_gpadl(abi::vmbus::ChannelId channel, abi::vmbus::GpadlId gpadl);
  void return_gpadl(abi::vmbus::ChannelId channel, abi::vmbus::GpadlId gpadl);
  /// The guest is gone without a word (the machine is reset).
  void reset();

  /// What is to be done, in order; empty afterwards.
  std::vector<Action> take_actions() { return std::exchange(actions_, {}); }

  ConnectionState state() const { return state_; }
  std::optional<abi::vmbus::Version> version() const;
  /// The page of a connected guest's bits for all channels; none from version 2.4 on, where each channel has a flag.
  std::optional<engine::GuestPhysicalAddress> interrupt_page() const;
  const std::map<abi::vmbus::ChannelId, ChannelState>& channels() const { return channels_; }
  const ChannelState* find(abi::vmbus::ChannelId channel) const;
  /// The memory of an open or opening channel's rings: page numbers, guest to host and host to guest.
  struct RingPages {
    std::span<const std::uint64_t> upstream;
    std::span<const std::uint64_t> downstream;
  };
  RingPages ring_pages(abi::vmbus::ChannelId channel) const;
  std::uint64_t rejected_messages() const { return rejected_messages_; }
  const std::string& last_rejection() const { return last_rejection_; }

  state::SavedUnit save() const;
  /// The same primary channels must have been offered. Sub-channels are made anew.
  Result<> restore(const state::SavedUnit& saved);
  void inspect(state::Inspection& node) const;

 private:
  /// What is done once everybody has let go.
  enum class AfterDisconnect : std::uint8_t { Nothing, AcknowledgeUnload, AnswerContact };

  // The guest's messages: control_messages.cpp.
  void handle_initiate_contact(abi::ConnectionId through, std::span<const std::uint8_t> message);
  void handle_request_offers();
  void handle_open_channel(std::span<const std::uint8_t> message);
  void handle_close_channel(std::span<const std::uint8_t> message);
  void handle_gpadl_header(std::span<const std::uint8_t> message);
  void handle_gpadl_body(std::span<const std::uint8_t> message);
  void handle_gpadl_teardown(std::span<const std::uint8_t> message);
  void handle_rel_id_released(std::span<const std::uint8_t> message);
  void handle_modify_channel(std::span<const std::uint8_t> message);
  void handle_tl_connect_request(std::span<const std::uint8_t> message);
  void dispatch(abi::ConnectionId through, abi::vmbus::MessageType type, std::span<const std::uint8_t> message);
  void answer_contact();
  void finish_gpadl(GpadlTable::Key key, GpadlProgress progress);
  /// Why this list cannot be a ring, or nothing.
  std::optional<std::string> check_ring(const Gpadl* gpadl, std::uint32_t downstream_page_offset) const;
  void reject(std::string why);

  template <typename Message>
  void send(const Message& message);
  void announce(abi::vmbus::ChannelId id, ChannelState& channel);
  void close_rings(abi::vmbus::ChannelId id, ChannelState& channel);
  void rings_closed(abi::vmbus::ChannelId id, ChannelState& channel);
  void remove(abi::vmbus::ChannelId id);
  void revoke_sub_channels(abi::vmbus::ChannelId primary);
  void disconnect(AfterDisconnect next);
  void finish_disconnect_if_all_let_go();
  std::optional<abi::vmbus::ChannelId> free_id() const;
  ChannelState* find_mutable(abi::vmbus::ChannelId channel);
  bool has_vp(abi::VpIndex vp) const { return std::to_underlying(vp) < vp_count_; }

  std::uint32_t vp_count_;
  ConnectionState state_ = ConnectionState::Disconnected;
  abi::vmbus::Version version_{};  // of the connection
  abi::VpIndex target_vp_{0};      // where the guest wants its messages
  engine::GuestPhysicalAddress interrupt_page_ = 0;
  AfterDisconnect after_disconnect_ = AfterDisconnect::Nothing;
  abi::vmbus::Version wanted_version_{};  // of the contact that waits for the end of the disconnection
  abi::VpIndex wanted_target_vp_{0};
  engine::GuestPhysicalAddress wanted_interrupt_page_ = 0;
  std::map<abi::vmbus::ChannelId, ChannelState> channels_;
  GpadlTable gpadls_;
  std::vector<Action> actions_;
  std::uint64_t rejected_messages_ = 0;
  std::string last_rejection_;
};

template <typename Message>
void ControlPlane::send(const Message& message) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&message);
  actions_.emplace_back(Send{.target_vp = target_vp_, .message = {bytes, bytes + sizeof message}});
}

}  // namespace bulkhead::vmbus
