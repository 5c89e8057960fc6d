// SPDX-License-Identifier: Apache-2.0
//
// The host's side: offers, the ends of openings and closings, and the end of a connection.
#include "vmbus/control_plane.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace bulkhead::vmbus {

using namespace abi::vmbus;

const ChannelState* ControlPlane::find(ChannelId channel) const {
  const auto found = channels_.find(channel);
  return found == channels_.end() ? nullptr : &found->second;
}

ChannelState* ControlPlane::find_mutable(ChannelId channel) {
  const auto found = channels_.find(channel);
  return found == channels_.end() ? nullptr : &found->second;
}

std::optional<Version> ControlPlane::version() const {
  if (state_ == ConnectionState::Disconnected) return std::nullopt;
  return version_;
}

std::optional<engine::GuestPhysicalAddress> ControlPlane::interrupt_page() const {
  const auto spoken = version();
  return spoken && *spoken < Version::V2_4 ? std::optional(interrupt_page_) : std::nullopt;
}

std::optional<ChannelId> ControlPlane::free_id() const {
  for (std::uint32_t number = 1; number <= kMaximumChannelId; ++number) {
    if (!channels_.contains(ChannelId{number})) return ChannelId{number};
  }
  return std::nullopt;
}

Result<ChannelId> ControlPlane::offer(const OfferParameters& parameters, std::optional<ChannelId> wanted) {
  if (parameters.interface_type.is_zero() || parameters.instance.is_zero()) {
    return fail("a VMBus channel needs an interface and an instance");
  }
  for (const auto& [id, channel] : channels_) {
    if (!channel.is_sub_channel() && channel.parameters.instance == parameters.instance) {
      return fail(fmt::format("VMBus channel {} has the same instance", std::to_underlying(id)));
    }
  }
  const auto id = wanted ? wanted : free_id();
  if (!id) return fail("there is no VMBus channel number left");
  const std::uint32_t number = std::to_underlying(*id);
  if (number == 0 || number > kMaximumChannelId || channels_.contains(*id)) {
    return fail(fmt::format("VMBus channel number {} is not free", number));
  }
  ChannelState& channel = channels_[*id];
  channel.parameters = parameters;
  if (state_ == ConnectionState::OffersDelivered) announce(*id, channel);
  return *id;
}

Result<ChannelId> ControlPlane::offer_sub_channel(ChannelId primary, std::uint16_t index) {
  const ChannelState* parent = find(primary);
  if (parent == nullptr || parent->is_sub_channel() || parent->ring != RingState::Open ||
      parent->offer != OfferState::Announced) {
    return fail(fmt::format("VMBus channel {} cannot have sub-channels now", std::to_underlying(primary)));
  }
  for (const auto& [id, channel] : channels_) {
    if (channel.is_sub_channel() && channel.primary == primary && channel.sub_channel_index == index) {
      return fail(fmt::format("VMBus channel {} has sub-channel {} already", std::to_underlying(primary), index));
    }
  }
  const auto id = free_id();
  if (!id || index == 0) return fail("there is no VMBus channel number left");
  const OfferParameters parameters = parent->parameters;
  ChannelState& channel = channels_[*id];
  channel.parameters = parameters;
  channel.primary = primary;
  channel.sub_channel_index = index;
  announce(*id, channel);
  return *id;
}

void ControlPlane::announce(ChannelId id, ChannelState& channel) {
  channel.offer = OfferState::Announced;
  OfferChannel message{};
  message.header.type = MessageType::OfferChannel;
  message.interface_type = channel.parameters.interface_type;
  message.instance = channel.parameters.instance;
  message.flags = channel.parameters.flags;
  message.mmio_megabytes = channel.parameters.mmio_megabytes;
  std::ranges::copy(channel.parameters.user_data, message.user_data);
  message.sub_channel_index = channel.sub_channel_index;
  message.channel = id;
  message.monitor_id = kNoMonitor;
  message.dedicated_interrupt = 1;
  message.connection = abi::ConnectionId{kEventConnectionBase | std::to_underlying(id)};
  send(message);
}

void ControlPlane::revoke(ChannelId id) {
  ChannelState* channel = find_mutable(id);
  if (channel == nullptr) return;
  revoke_sub_channels(id);
  if (channel->offer == OfferState::Unannounced) {
    remove(id);
  } else if (channel->offer == OfferState::Announced) {
    channel->offer = OfferState::Rescinded;
    // While the connection ends, the guest is not to be told any more; the channel goes with the connection.
    if (state_ != ConnectionState::Disconnecting) {
      send(ChannelMessage{.header = {MessageType::RescindOffer, 0}, .channel = id});
    }
    close_rings(id, *channel);
  }
}

void ControlPlane::revoke_sub_channels(ChannelId primary) {
  std::vector<ChannelId> ids;
  for (const auto& [id, channel] : channels_) {
    if (channel.is_sub_channel() && channel.primary == primary) ids.push_back(id);
  }
  for (const ChannelId id : ids) revoke(id);
}

void ControlPlane::close_rings(ChannelId id, ChannelState& channel) {
  if (channel.ring != RingState::Open && channel.ring != RingState::Opening) return;
  channel.ring = RingState::Closing;
  actions_.emplace_back(Close{id});
}

void ControlPlane::remove(ChannelId id) {
  gpadls_.drop_channel(id);
  channels_.erase(id);
  actions_.emplace_back(Gone{id});
}

void ControlPlane::open_finished(ChannelId id, bool accepted) {
  ChannelState* channel = find_mutable(id);
  // If it is closing already, the answer came too late: it was revoked, or the guest has gone.
  if (channel == nullptr || channel->ring != RingState::Opening) return;
  channel->ring = accepted ? RingState::Open : RingState::Closed;
  send(OpenChannelResult{.header = {MessageType::OpenChannelResult, 0},
                         .channel = id,
                         .open_id = channel->open.open_id,
                         .status = accepted ? kStatusSuccess : kStatusUnsuccessful});
  if (!accepted) rings_closed(id, *channel);
}

void ControlPlane::close_finished(ChannelId id) {
  ChannelState* channel = find_mutable(id);
  if (channel == nullptr || channel->ring != RingState::Closing) return;
  channel->ring = RingState::Closed;
  rings_closed(id, *channel);
}

void ControlPlane::rings_closed(ChannelId id, ChannelState& channel) {
  const GpadlId gpadl = channel.open.ring_gpadl;
  channel.open = {};
  return_gpadl(id, gpadl);
  if (state_ == ConnectionState::Disconnecting) {
    finish_disconnect_if_all_let_go();
    return;
  }
  // Sub-channels live no longer than their primary is open.
  revoke_sub_channels(id);
  if (channel.offer == OfferState::Released) remove(id);
}

const GuestRanges* ControlPlane::use_gpadl(ChannelId channel, GpadlId gpadl) {
  if (!gpadls_.use({channel, gpadl})) return nullptr;
  return &gpadls_.find({channel, gpadl})->ranges;
}

void ControlPlane::return_gpadl(ChannelId channel, GpadlId gpadl) {
  if (!gpadls_.unuse({channel, gpadl})) return;
  if (state_ != ConnectionState::Disconnecting) {
    send(GpadlTorndown{.header = {MessageType::GpadlTorndown, 0}, .gpadl = gpadl});
  }
}

ControlPlane::RingPages ControlPlane::ring_pages(ChannelId id) const {
  const ChannelState* channel = find(id);
  if (channel == nullptr || channel->ring == RingState::Closed) return {};
  const Gpadl* gpadl = gpadls_.find({id, channel->open.ring_gpadl});
  if (gpadl == nullptr || gpadl->ranges.ranges().empty()) return {};
  const std::span<const std::uint64_t> pages = gpadl->ranges.ranges().front().pages;
  return {.upstream = pages.first(channel->open.downstream_page_offset),
          .downstream = pages.subspan(channel->open.downstream_page_offset)};
}

void ControlPlane::reset() {
  if (state_ == ConnectionState::Disconnected) return;
  disconnect(AfterDisconnect::Nothing);
}

void ControlPlane::disconnect(AfterDisconnect next) {
  after_disconnect_ = next;
  actions_.emplace_back(DiscardMessages{});
  state_ = ConnectionState::Disconnecting;
  for (auto& [id, channel] : channels_) close_rings(id, channel);
  finish_disconnect_if_all_let_go();
}

void ControlPlane::finish_disconnect_if_all_let_go() {
  const bool closing =
      std::ranges::any_of(channels_, [](const auto& entry) { return entry.second.ring == RingState::Closing; });
  if (closing) return;
  gpadls_.clear();
  std::erase_if(channels_, [&](const auto& entry) {
    const auto& [id, channel] = entry;
    const bool goes =
        channel.is_sub_channel() || channel.offer == OfferState::Rescinded || channel.offer == OfferState::Released;
    if (goes) actions_.emplace_back(Gone{id});
    return goes;
  });
  for (auto& [id, channel] : channels_) channel.offer = OfferState::Unannounced;
  state_ = ConnectionState::Disconnected;
  switch (std::exchange(after_disconnect_, AfterDisconnect::Nothing)) {
    case AfterDisconnect::Nothing: break;
    case AfterDisconnect::AcknowledgeUnload: send(EmptyMessage{{MessageType::UnloadComplete, 0}}); break;
    case AfterDisconnect::AnswerContact: answer_contact(); break;
  }
}

}  // namespace bulkhead::vmbus
