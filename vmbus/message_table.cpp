// SPDX-License-Identifier: Apache-2.0
#include "vmbus/message_table.hpp"

#include <algorithm>
#include <array>

namespace bulkhead::vmbus {
namespace {

using namespace abi::vmbus;
using enum Direction;
using enum MessageType;

constexpr std::array kKinds = {
    MessageKind{OfferChannel, "OFFER_CHANNEL", FromHost, Version::V0_13, sizeof(abi::vmbus::OfferChannel)},
    MessageKind{RescindOffer, "RESCIND_OFFER", FromHost, Version::V0_13, sizeof(ChannelMessage)},
    MessageKind{RequestOffers, "REQUEST_OFFERS", FromGuest, Version::V0_13, sizeof(EmptyMessage)},
    MessageKind{AllOffersDelivered, "ALL_OFFERS_DELIVERED", FromHost, Version::V0_13, sizeof(EmptyMessage)},
    MessageKind{OpenChannel, "OPEN_CHANNEL", FromGuest, Version::V0_13, sizeof(abi::vmbus::OpenChannel)},
    MessageKind{OpenChannelResult, "OPEN_CHANNEL_RESULT", FromHost, Version::V0_13,
                sizeof(abi::vmbus::OpenChannelResult)},
    MessageKind{CloseChannel, "CLOSE_CHANNEL", FromGuest, Version::V0_13, sizeof(ChannelMessage)},
    MessageKind{GpadlHeader, "GPADL_HEADER", FromGuest, Version::V0_13, sizeof(abi::vmbus::GpadlHeader)},
    MessageKind{GpadlBody, "GPADL_BODY", FromGuest, Version::V0_13, sizeof(abi::vmbus::GpadlBody)},
    MessageKind{GpadlCreated, "GPADL_CREATED", FromHost, Version::V0_13, sizeof(abi::vmbus::GpadlCreated)},
    MessageKind{GpadlTeardown, "GPADL_TEARDOWN", FromGuest, Version::V0_13, sizeof(abi::vmbus::GpadlTeardown)},
    MessageKind{GpadlTorndown, "GPADL_TORNDOWN", FromHost, Version::V0_13, sizeof(abi::vmbus::GpadlTorndown)},
    MessageKind{RelIdReleased, "RELID_RELEASED", FromGuest, Version::V0_13, sizeof(ChannelMessage)},
    MessageKind{InitiateContact, "INITIATE_CONTACT", FromGuest, Version::V0_13, sizeof(abi::vmbus::InitiateContact)},
    MessageKind{VersionResponse, "VERSION_RESPONSE", FromHost, Version::V0_13, sizeof(abi::vmbus::VersionResponse)},
    MessageKind{Unload, "UNLOAD", FromGuest, Version::V0_13, sizeof(EmptyMessage)},
    MessageKind{UnloadComplete, "UNLOAD_COMPLETE", FromHost, Version::V0_13, sizeof(EmptyMessage)},
    MessageKind{TlConnectRequest, "TL_CONNECT_REQUEST", FromGuest, Version::V4_0, sizeof(abi::vmbus::TlConnectRequest)},
    MessageKind{ModifyChannel, "MODIFY_CHANNEL", FromGuest, Version::V4_1, sizeof(abi::vmbus::ModifyChannel)},
    MessageKind{TlConnectResult, "TL_CONNECT_RESULT", FromHost, Version::V4_0, sizeof(abi::vmbus::TlConnectResult)},
    MessageKind{ModifyChannelResponse, "MODIFY_CHANNEL_RESPONSE", FromHost, Version::V5_3,
                sizeof(abi::vmbus::ModifyChannelResponse)},
};
static_assert(std::ranges::is_sorted(kKinds, {}, &MessageKind::type));
static_assert(std::ranges::all_of(kKinds,
                                  [](const auto& kind) { return kind.smallest_size <= abi::kMessagePayloadSize; }));

}  // namespace

std::span<const MessageKind> message_kinds() { return kKinds; }

const MessageKind* find_message_kind(MessageType type) {
  const auto* found = std::ranges::find(kKinds, type, &MessageKind::type);
  return found == kKinds.end() ? nullptr : found;
}

bool is_supported(Version version) {
  switch (version) {
    case Version::V0_13:
    case Version::V1_1:
    case Version::V2_4:
    case Version::V3_0:
    case Version::V4_0:
    case Version::V4_1:
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
    case Version::V5_3: return true;
    default: return false;
  }
}

}  // namespace bulkhead::vmbus
