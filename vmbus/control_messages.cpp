// SPDX-License-Identifier: Apache-2.0
//
// The guest's side of the control plane: one function for each message that it may send. Each looks at its own copy of
// the message, checks all of it, and only then changes anything.
#include <fmt/format.h>

#include <cstring>

#include "abi/vmbus_ring.hpp"
#include "vmbus/control_plane.hpp"
#include "vmbus/message_table.hpp"

namespace bulkhead::vmbus {

using namespace abi::vmbus;

namespace {

/// The fixed part of a message; that it is there was checked against the table.
template <typename Message>
Message fixed_part(std::span<const std::uint8_t> message) {
  Message copy;
  std::memcpy(&copy, message.data(), sizeof copy);
  return copy;
}

}  // namespace

void ControlPlane::reject(std::string why) {
  ++rejected_messages_;
  last_rejection_ = std::move(why);
}

void ControlPlane::handle_message(abi::ConnectionId through, std::span<const std::uint8_t> message) {
  if (message.size() < sizeof(MessageHeader)) return reject("a message shorter than its header");
  const auto type = fixed_part<MessageHeader>(message).type;
  const MessageKind* kind = find_message_kind(type);
  if (kind == nullptr || kind->direction != Direction::FromGuest) {
    return reject(fmt::format("message {} is none that a guest may send", std::to_underlying(type)));
  }
  if (message.size() < kind->smallest_size) return reject(fmt::format("{} of {} bytes", kind->name, message.size()));
  if (type != MessageType::InitiateContact) {
    if (state_ != ConnectionState::Connected && state_ != ConnectionState::OffersDelivered) {
      return reject(fmt::format("{} without a connection", kind->name));
    }
    if (version_ < kind->smallest_version) return reject(fmt::format("{} of a later version", kind->name));
  }
  dispatch(through, type, message);
}

void ControlPlane::dispatch(abi::ConnectionId through, MessageType type, std::span<const std::uint8_t> message) {
  switch (type) {
    case MessageType::InitiateContact: return handle_initiate_contact(through, message);
    case MessageType::Unload: return disconnect(AfterDisconnect::AcknowledgeUnload);
    case MessageType::RequestOffers: return handle_request_offers();
    case MessageType::OpenChannel: return handle_open_channel(message);
    case MessageType::CloseChannel: return handle_close_channel(message);
    case MessageType::GpadlHeader: return handle_gpadl_header(message);
    case MessageType::GpadlBody: return handle_gpadl_body(message);
    case MessageType::GpadlTeardown: return handle_gpadl_teardown(message);
    case MessageType::RelIdReleased: return handle_rel_id_released(message);
    case MessageType::ModifyChannel: return handle_modify_channel(message);
    case MessageType::TlConnectRequest: return handle_tl_connect_request(message);
    default: return reject("a message without a handler");
  }
}

void ControlPlane::handle_initiate_contact(abi::ConnectionId through, std::span<const std::uint8_t> message) {
  const auto contact = fixed_part<InitiateContact>(message);
  // From 5.0 on the guest says on which SINT it listens; there is one on which it is heard.
  if (contact.version >= Version::V5_0 && through == kMessageConnection && contact.target_sint != kVmbusSint) {
    return reject(fmt::format("INITIATE_CONTACT for SINT {}", std::to_underlying(contact.target_sint)));
  }
  const abi::VpIndex target = contact.version >= Version::V3_0 ? contact.target_vp : abi::VpIndex{0};
  if (!has_vp(target)) {
    return reject(fmt::format("INITIATE_CONTACT for processor {}", std::to_underlying(target)));
  }
  wanted_version_ = contact.version;
  wanted_target_vp_ = target;
  wanted_interrupt_page_ = contact.version < Version::V2_4 ? contact.interrupt_page() : 0;
  // A guest that starts anew (kexec, or a driver that was loaded again) has forgotten its connection without a word.
  if (state_ == ConnectionState::Disconnected)
    answer_contact();
  else
    disconnect(AfterDisconnect::AnswerContact);
}

void ControlPlane::answer_contact() {
  target_vp_ = wanted_target_vp_;
  interrupt_page_ = wanted_interrupt_page_;
  VersionResponse response{};
  response.header.type = MessageType::VersionResponse;
  if (is_supported(wanted_version_)) {
    version_ = wanted_version_;
    state_ = ConnectionState::Connected;
    response.supported = 1;
    response.connection_or_version =
        version_ >= Version::V5_0 ? std::to_underlying(kMessageConnection) : std::to_underlying(version_);
  }
  send(response);
}

void ControlPlane::handle_request_offers() {
  if (state_ == ConnectionState::OffersDelivered) return reject("REQUEST_OFFERS a second time");
  state_ = ConnectionState::OffersDelivered;
  for (auto& [id, channel] : channels_) {
    if (channel.offer == OfferState::Unannounced) announce(id, channel);
  }
  send(EmptyMessage{{MessageType::AllOffersDelivered, 0}});
}

std::optional<std::string> ControlPlane::check_ring(const Gpadl* gpadl, std::uint32_t downstream_page_offset) const {
  if (gpadl == nullptr) return "a GPADL that is not lent";
  const auto ranges = gpadl->ranges.ranges();
  if (ranges.size() != 1 || ranges.front().byte_offset != 0 || ranges.front().byte_count % kRingPageSize != 0) {
    return "a ring that is not one range of whole pages";
  }
  const std::size_t pages = ranges.front().pages.size();
  if (downstream_page_offset < 2 || pages < 4 || downstream_page_offset > pages - 2) {
    return fmt::format("rings of {} and {} pages", downstream_page_offset, pages);
  }
  return std::nullopt;
}

void ControlPlane::handle_open_channel(std::span<const std::uint8_t> message) {
  const auto request = fixed_part<OpenChannel>(message);
  ChannelState* channel = find_mutable(request.channel);
  if (channel == nullptr) return reject("OPEN_CHANNEL of an unknown channel");
  const GpadlTable::Key key{request.channel, request.ring_gpadl};
  std::optional<std::string> fault;
  if (channel->offer != OfferState::Announced || channel->ring != RingState::Closed)
    fault = "a channel in use";
  else if (request.target_vp != kNoTargetVp && !has_vp(request.target_vp))
    fault = "an unknown processor";
  else
    fault = check_ring(gpadls_.lent(key), request.downstream_page_offset);
  if (fault) {
    reject("OPEN_CHANNEL: " + *fault);
    return send(OpenChannelResult{.header = {MessageType::OpenChannelResult, 0},
                                  .channel = request.channel,
                                  .open_id = request.open_id,
                                  .status = kStatusUnsuccessful});
  }
  gpadls_.use(key);
  channel->ring = RingState::Opening;
  channel->open = {.open_id = request.open_id,
                   .ring_gpadl = request.ring_gpadl,
                   .target_vp = request.target_vp,
                   .downstream_page_offset = request.downstream_page_offset,
                   .user_data = std::to_array(request.user_data)};
  actions_.emplace_back(Open{request.channel});
}

void ControlPlane::handle_close_channel(std::span<const std::uint8_t> message) {
  const ChannelId id = fixed_part<ChannelMessage>(message).channel;
  ChannelState* channel = find_mutable(id);
  // Of a revoked channel the rings are closed already, or on the way there; the guest may not have known.
  if (channel != nullptr && channel->offer == OfferState::Rescinded) return;
  if (channel == nullptr || channel->ring != RingState::Open) return reject("CLOSE_CHANNEL of a channel not open");
  close_rings(id, *channel);
}

void ControlPlane::handle_gpadl_header(std::span<const std::uint8_t> message) {
  const auto header = fixed_part<GpadlHeader>(message);
  const ChannelState* channel = find(header.channel);
  const GpadlTable::Key key{header.channel, header.gpadl};
  if (channel == nullptr || channel->offer != OfferState::Announced) {
    return finish_gpadl(key, GpadlProgress::Failed);
  }
  finish_gpadl(key,
               gpadls_.begin(key, header.range_data_size, header.range_count, message.subspan(sizeof(GpadlHeader))));
}

void ControlPlane::handle_gpadl_body(std::span<const std::uint8_t> message) {
  const auto body = fixed_part<GpadlBody>(message);
  const auto channel = gpadls_.incomplete_owner(body.gpadl);
  if (!channel) return reject("GPADL_BODY without its header");
  const GpadlTable::Key key{*channel, body.gpadl};
  finish_gpadl(key, gpadls_.extend(key, message.subspan(sizeof(GpadlBody))));
}

void ControlPlane::finish_gpadl(GpadlTable::Key key, GpadlProgress progress) {
  if (progress == GpadlProgress::MoreToCome) return;
  const bool failed = progress == GpadlProgress::Failed;
  if (failed) reject(fmt::format("GPADL {:#x} cannot be", std::to_underlying(key.second)));
  send(GpadlCreated{.header = {MessageType::GpadlCreated, 0},
                    .channel = key.first,
                    .gpadl = key.second,
                    .status = failed ? kStatusUnsuccessful : kStatusSuccess});
}

void ControlPlane::handle_gpadl_teardown(std::span<const std::uint8_t> message) {
  const auto request = fixed_part<GpadlTeardown>(message);
  switch (gpadls_.tear_down({request.channel, request.gpadl})) {
    case GpadlTable::Teardown::NotLent: return reject("GPADL_TEARDOWN of a GPADL that is not lent");
    case GpadlTable::Teardown::Awaited: actions_.emplace_back(GpadlWanted{request.channel, request.gpadl}); return;
    case GpadlTable::Teardown::Gone:
      return send(GpadlTorndown{.header = {MessageType::GpadlTorndown, 0}, .gpadl = request.gpadl});
  }
}

void ControlPlane::handle_rel_id_released(std::span<const std::uint8_t> message) {
  const ChannelId id = fixed_part<ChannelMessage>(message).channel;
  ChannelState* channel = find_mutable(id);
  if (channel == nullptr || channel->offer == OfferState::Unannounced || channel->offer == OfferState::Released) {
    return reject("RELID_RELEASED of an unknown channel");
  }
  if (channel->offer == OfferState::Announced) {
    if (channel->ring == RingState::Open || channel->ring == RingState::Opening) {
      return reject("RELID_RELEASED of an open channel");
    }
    if (!channel->is_sub_channel()) {
      // The guest forgets the channel until it asks for the offers again.
      if (channel->ring != RingState::Closed) return reject("RELID_RELEASED of a closing channel");
      gpadls_.drop_channel(id);
      channel->offer = OfferState::Unannounced;
      return;
    }
  }
  if (channel->ring == RingState::Closed)
    remove(id);
  else
    channel->offer = OfferState::Released;
}

void ControlPlane::handle_modify_channel(std::span<const std::uint8_t> message) {
  const auto request = fixed_part<ModifyChannel>(message);
  ChannelState* channel = find_mutable(request.channel);
  const bool possible = channel != nullptr && channel->offer == OfferState::Announced &&
                        channel->ring == RingState::Open &&
                        (request.target_vp == kNoTargetVp || has_vp(request.target_vp));
  if (possible) {
    channel->open.target_vp = request.target_vp;
    actions_.emplace_back(Retarget{request.channel, request.target_vp});
  } else {
    reject("MODIFY_CHANNEL of a channel not open, or to an unknown processor");
  }
  if (version_ < Version::V5_3) return;
  send(ModifyChannelResponse{.header = {MessageType::ModifyChannelResponse, 0},
                             .channel = request.channel,
                             .status = possible ? kStatusSuccess : kStatusUnsuccessful});
}

// Connections to sockets of the host: nobody listens.
void ControlPlane::handle_tl_connect_request(std::span<const std::uint8_t> message) {
  const auto request = fixed_part<TlConnectRequest>(message);
  send(TlConnectResult{.header = {MessageType::TlConnectResult, 0},
                       .endpoint = request.endpoint,
                       .service = request.service,
                       .status = kStatusConnectionRefused});
}

}  // namespace bulkhead::vmbus
