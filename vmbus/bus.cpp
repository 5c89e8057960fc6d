// SPDX-License-Identifier: Apache-2.0
#include "vmbus/bus.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>

namespace bulkhead::vmbus {

using namespace abi::vmbus;

Bus::Bus(const engine::GuestMemory& memory, SynicPort& port, std::uint32_t vp_count)
    : memory_(memory), port_(port), control_(vp_count), messages_(port) {}

void Bus::add_channel(ChannelId id, std::uint16_t index, ChannelProvider& provider) {
  channels_[id] = std::make_unique<Channel>(*this, provider, id, index);
}

Result<ChannelId> Bus::offer(const OfferParameters& parameters, ChannelProvider& provider,
                             std::optional<ChannelId> wanted) {
  auto id = control_.offer(parameters, wanted);
  if (!id) return id;
  add_channel(*id, 0, provider);
  carry_out();
  return id;
}

Result<> Bus::offer_sub_channels(Channel& primary, std::uint16_t count) {
  std::uint16_t last = 0;
  for (const auto& [id, channel] : control_.channels()) {
    if (channel.is_sub_channel() && channel.primary == primary.id()) last = std::max(last, channel.sub_channel_index);
  }
  if (count > UINT16_MAX - last) return fail("too many sub-channels");
  for (std::uint16_t index = 0; index < count; ++index) {
    const auto number = static_cast<std::uint16_t>(last + index + 1);
    auto id = control_.offer_sub_channel(primary.id(), number);
    if (!id) return std::unexpected(id.error());
    add_channel(*id, number, primary.provider());
  }
  carry_out();
  return {};
}

void Bus::revoke(ChannelId channel) {
  control_.revoke(channel);
  carry_out();
}

Channel* Bus::find(ChannelId channel) {
  const auto found = channels_.find(channel);
  return found == channels_.end() ? nullptr : found->second.get();
}

Acceptance Bus::message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                               std::span<const std::uint8_t> payload) {
  if (connection != kMessageConnection && connection != kMessageConnectionBefore5_0) {
    return Acceptance::NoSuchConnection;
  }
  if (messages_.has_backlog()) {
    messages_.deliver();
    if (messages_.has_backlog()) return Acceptance::NoBuffers;
  }
  if (type != abi::SynicMessageType::VmbusChannel || payload.size() > abi::kMessagePayloadSize) {
    return Acceptance::Taken;  // and dropped: nobody here speaks it
  }
  control_.handle_message(connection, payload);
  carry_out();
  return Acceptance::Taken;
}

Acceptance Bus::event_signaled(abi::ConnectionId connection, std::uint16_t) {
  if (connection == kSharedEventConnection && control_.interrupt_page()) {
    take_shared_signals();
    return Acceptance::Taken;
  }
  const std::uint32_t number = std::to_underlying(connection);
  if (number <= kEventConnectionBase || number > kEventConnectionBase + kMaximumChannelId) {
    return Acceptance::NoSuchConnection;
  }
  Channel* channel = find(ChannelId{number - kEventConnectionBase});
  if (channel == nullptr) return Acceptance::NoSuchConnection;
  signal_provider(*channel);
  return Acceptance::Taken;
}

void Bus::signal_provider(Channel& channel) {
  const ChannelState* state = control_.find(channel.id());
  // A signal of a channel that is not open, or already on its way to be closed, has nobody to hear it.
  if (channel.is_open() && state != nullptr && state->ring == RingState::Open) channel.provider().readable(channel);
}

std::span<std::uint64_t> Bus::interrupt_bits(bool to_host) const {
  constexpr std::uint64_t kPageSize = 4096, kHalf = kPageSize / 2;
  const auto address = control_.interrupt_page();
  const auto page = address && *address % kPageSize == 0 ? memory_.at(*address, kPageSize) : std::nullopt;
  if (!page || !memory_.find(*address)->writable) return {};
  auto* words = reinterpret_cast<std::uint64_t*>(page->data() + (to_host ? kHalf : 0));
  return {words, kHalf / sizeof(std::uint64_t)};
}

void Bus::take_shared_signals() {
  std::uint32_t first = 0;
  for (std::uint64_t& word : interrupt_bits(true)) {
    std::uint64_t bits = std::atomic_ref(word).exchange(0);
    for (; bits != 0; bits &= bits - 1) {
      const auto number = first + static_cast<std::uint32_t>(std::countr_zero(bits));
      if (Channel* channel = find(ChannelId{number})) signal_provider(*channel);
    }
    first += 64;
  }
}

void Bus::signal_guest(ChannelId channel, abi::VpIndex vp) {
  const std::uint32_t number = std::to_underlying(channel);
  // The flag's number is the channel's.
  if (!control_.interrupt_page()) return port_.signal_event(vp, kVmbusSint, static_cast<std::uint16_t>(number));
  const auto bits = interrupt_bits(false);
  if (number / 64 >= bits.size()) return;
  std::atomic_ref(bits[number / 64]).fetch_or(std::uint64_t{1} << number % 64);
  port_.signal_event(abi::VpIndex{0}, kVmbusSint, 0);
}

const GuestRanges* Bus::use_gpadl(ChannelId channel, GpadlId gpadl) { return control_.use_gpadl(channel, gpadl); }

void Bus::return_gpadl(ChannelId channel, GpadlId gpadl) {
  // The list of an open channel's rings is the bus's own to return.
  const ChannelState* state = control_.find(channel);
  if (state != nullptr && state->ring != RingState::Closed && state->open.ring_gpadl == gpadl) return;
  control_.return_gpadl(channel, gpadl);
  carry_out();
}

void Bus::close_finished(ChannelId id) {
  const ChannelState* state = control_.find(id);
  if (state == nullptr || state->ring != RingState::Closing) return;
  if (Channel* channel = find(id)) channel->close_rings();
  control_.close_finished(id);
  carry_out();
}

void Bus::carry_out() {
  // A provider that is called from here may ask for more: the outermost call does that too.
  if (carrying_out_) return;
  carrying_out_ = true;
  for (auto actions = control_.take_actions(); !actions.empty(); actions = control_.take_actions()) {
    for (const auto& action : actions) carry_out(action);
  }
  carrying_out_ = false;
}

void Bus::carry_out(const Action& action) {
  if (const auto* send = std::get_if<Send>(&action)) {
    messages_.push(send->target_vp, send->message);
  } else if (std::holds_alternative<DiscardMessages>(action)) {
    messages_.clear();
  } else if (const auto* opened = std::get_if<Open>(&action)) {
    if (Channel* channel = find(opened->channel)) open(*channel);
  } else if (const auto* closed = std::get_if<Close>(&action)) {
    Channel* channel = find(closed->channel);
    if (channel == nullptr) return;
    if (channel->is_open())
      channel->provider().close(*channel);
    else
      close_finished(closed->channel);  // it was closed before it had opened
  } else if (const auto* moved = std::get_if<Retarget>(&action)) {
    Channel* channel = find(moved->channel);
    if (channel != nullptr && channel->is_open()) channel->target_vp_ = moved->target_vp;
  } else if (const auto* wanted = std::get_if<GpadlWanted>(&action)) {
    if (Channel* channel = find(wanted->channel)) channel->provider().gpadl_wanted(*channel, wanted->gpadl);
  } else if (const auto* gone = std::get_if<Gone>(&action)) {
    channels_.erase(gone->channel);
  }
}

Result<Channel::Rings> Bus::map_rings(const ControlPlane& control, ChannelId channel) const {
  const auto pages = control.ring_pages(channel);
  auto upstream = RingMemory::map(memory_, pages.upstream);
  if (!upstream) return std::unexpected(upstream.error());
  auto downstream = RingMemory::map(memory_, pages.downstream);
  if (!downstream) return std::unexpected(downstream.error());
  return Channel::Rings{.incoming = IncomingRing(std::move(*upstream)),
                        .outgoing = OutgoingRing(std::move(*downstream))};
}

void Bus::open(Channel& channel) {
  const ChannelId id = channel.id();
  const ChannelState* state = control_.find(id);
  if (state == nullptr || state->ring != RingState::Opening) return;
  auto rings = map_rings(control_, id);
  bool accepted = rings.has_value();
  if (accepted) {
    channel.open(std::move(*rings), state->open.target_vp);
    accepted = channel.provider().open(channel).has_value();
    if (!accepted) channel.close_rings();
  }
  control_.open_finished(id, accepted);
}

void Bus::reset() {
  control_.reset();
  carry_out();
  messages_.clear();
}

state::SavedUnit Bus::save() const {
  state::SavedUnit unit(1);
  state::SavedList control;
  control.push_back(control_.save());
  unit.list("control-plane", std::move(control));
  auto messages = messages_.save();
  unit.number("message-count", messages.size());
  unit.list("messages", std::move(messages));
  state::SavedList rings;
  for (const auto& [id, channel] : channels_) {
    if (channel->is_open()) rings.push_back(channel->save());
  }
  unit.number("ring-count", rings.size());
  unit.list("rings", std::move(rings));
  return unit;
}

Result<Bus::Channels> Bus::restore_channels(const ControlPlane& control, const state::SavedList& rings) {
  Channels channels;
  for (const auto& [id, state] : control.channels()) {
    Channel* offered = find(state.is_sub_channel() ? state.primary : id);
    if (offered == nullptr) continue;  // nothing but a number that the guest is to let go
    channels[id] = std::make_unique<Channel>(*this, offered->provider(), id, state.sub_channel_index);
  }
  for (const auto& saved : rings) {
    const auto number = saved.fields().find("channel");
    const auto* value = number == saved.fields().end() ? nullptr : std::get_if<std::uint64_t>(&number->second);
    const auto id = ChannelId{static_cast<std::uint32_t>(value != nullptr ? *value : 0)};
    const auto found = channels.find(id);
    const ChannelState* state = control.find(id);
    if (found == channels.end() || state->ring == RingState::Closed || found->second->is_open()) {
      return fail("saved state of vmbus: rings of a channel that is not open");
    }
    auto mapped = map_rings(control, id);
    if (!mapped) return fail("saved state of vmbus: " + mapped.error().message());
    found->second->rings_ = std::move(*mapped);
    found->second->target_vp_ = state->open.target_vp;
    if (auto restored = found->second->restore(saved); !restored) return std::unexpected(restored.error());
  }
  const bool missing = std::ranges::any_of(control.channels(), [&](const auto& entry) {
    const auto channel = channels.find(entry.first);
    return entry.second.ring != RingState::Closed && (channel == channels.end() || !channel->second->is_open());
  });
  if (missing) return fail("saved state of vmbus: an open channel without rings");
  return channels;
}

Result<> Bus::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto saved_control = reader.list("control-plane", 1);
  const auto saved_messages = reader.list("messages", reader.number("message-count", MessageQueue::kMaximum));
  const auto saved_rings = reader.list("rings", reader.number("ring-count", kMaximumChannelId));
  if (auto read = reader.finish(); !read) return read;

  ControlPlane control = control_;
  if (auto restored = control.restore(saved_control.front()); !restored) return restored;
  auto channels = restore_channels(control, saved_rings);
  if (!channels) return std::unexpected(channels.error());
  if (auto restored = messages_.restore(saved_messages); !restored) return restored;
  control_ = std::move(control);
  channels_ = std::move(*channels);
  std::vector<ChannelId> open_ids;
  for (const auto& [id, channel] : channels_) {
    if (channel->is_open()) open_ids.push_back(id);
  }
  for (const ChannelId id : open_ids) {
    // A provider that finishes a closing may make others go.
    Channel* channel = find(id);
    if (channel == nullptr || !channel->is_open()) continue;
    channel->provider().restored(*channel);
    if (control_.find(id)->ring == RingState::Closing) channel->provider().close(*channel);
  }
  return {};
}

void Bus::inspect(state::Inspection& node) const {
  control_.inspect(node.child("control-plane"));
  node.value("waiting-messages", std::uint64_t{messages_.size()});
  node.value("dropped-messages", messages_.dropped());
  for (const auto& [id, channel] : channels_) {
    channel->inspect(node.child(fmt::format("channel {}", std::to_underlying(id))));
  }
}

}  // namespace bulkhead::vmbus
