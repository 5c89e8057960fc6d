// SPDX-License-Identifier: Apache-2.0
//
// The host side of VMBus: the memory bus over which the guest's own drivers talk to the host's providers.
//
//              ┌──────────────────────────────── Bus ─────────────────────────────────┐
//   SynicPort ─┤ posted messages ─▶ ControlPlane ─▶ actions ─▶ providers: open, close │
//              │ free slots ─▶ MessageQueue ◀──────────┘                              │
//              │ signals ─────▶ Channel ── rings in guest memory ──▶ provider         ├─ ChannelProvider …
//              └──────────────────────────────────────────────────────────────────────┘
//
// ControlPlane (vmbus/control_plane.hpp) decides, and does nothing. The bus does: it maps rings, calls providers and
// sends messages. The wire is in abi/vmbus.hpp and abi/vmbus_ring.hpp.
//
// The guest is hostile. Whatever it posts, signals or writes into its rings ends in an answer, in a refusal that is
// counted, or in a channel that is broken until it is closed.
#pragma once

#include <map>
#include <memory>

#include "state/state_unit.hpp"
#include "vmbus/channel.hpp"
#include "vmbus/control_plane.hpp"
#include "vmbus/message_queue.hpp"

namespace bulkhead::vmbus {

/// What becomes of a message or a signal of the guest.
enum class Acceptance : std::uint8_t {
  Taken,
  /// Nothing listens on this connection id.
  NoSuchConnection,
  /// The guest must take its own messages first; it may try again.
  NoBuffers,
};

class Bus final : public state::StateUnit {
 public:
  /// The memory and the port live longer than the bus.
  Bus(const engine::GuestMemory& memory, SynicPort& port, std::uint32_t vp_count);

  /// Offers a channel that `provider` answers on. Errors: those of ControlPlane::offer.
  Result<abi::vmbus::ChannelId> offer(const OfferParameters& parameters, ChannelProvider& provider,
                                      std::optional<abi::vmbus::ChannelId> wanted = std::nullopt);
  /// Takes a channel back. Its provider is told to close if it is open; it is gone when the guest has let go too.
  void revoke(abi::vmbus::ChannelId channel);
  /// The channel, or null if it is gone.
  Channel* find(abi::vmbus::ChannelId channel);

  // From the guest.
  Acceptance message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                            std::span<const std::uint8_t> payload);
  Acceptance event_signaled(abi::ConnectionId connection, std::uint16_t flag);
  /// The guest may have taken a message.
  void slot_freed() { messages_.deliver(); }

  const ControlPlane& control_plane() const { return control_; }
  const MessageQueue& messages() const { return messages_; }

  std::string_view name() const override { return "vmbus"; }
  void start() override { messages_.deliver(); }
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  friend class Channel;
  using Channels = std::map<abi::vmbus::ChannelId, std::unique_ptr<Channel>>;

  Result<> offer_sub_channels(Channel& primary, std::uint16_t count);
  const GuestRanges* use_gpadl(abi::vmbus::ChannelId channel, abi::vmbus::GpadlId gpadl);
  void return_gpadl(abi::vmbus::ChannelId channel, abi::vmbus::GpadlId gpadl);
  void close_finished(abi::vmbus::ChannelId channel);
  /// Tells the guest that there is something in the channel, on that VP.
  void signal_guest(abi::vmbus::ChannelId channel, abi::VpIndex vp);
  void signal_provider(Channel& channel);
  /// What the guest has set in its half of the interrupt page.
  void take_shared_signals();
  /// A half of a connected guest's interrupt page; empty if there is none, or no memory where it says.
  std::span<std::uint64_t> interrupt_bits(bool to_host) const;

  /// Does what the control plane wants, until it wants nothing more.
  void carry_out();
  void carry_out(const Action& action);
  void open(Channel& channel);
  Result<Channel::Rings> map_rings(const ControlPlane& control, abi::vmbus::ChannelId channel) const;
  void add_channel(abi::vmbus::ChannelId id, std::uint16_t index, ChannelProvider& provider);
  Result<Channels> restore_channels(const ControlPlane& control, const state::SavedList& rings);

  const engine::GuestMemory& memory_;
  SynicPort& port_;
  ControlPlane control_;
  MessageQueue messages_;
  Channels channels_;
  bool carrying_out_ = false;
};

}  // namespace bulkhead::vmbus
