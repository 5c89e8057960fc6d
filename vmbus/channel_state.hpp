// SPDX-License-Identifier: Apache-2.0
//
// What the control plane knows of one channel. Two things have a life of their own: the offer (who may speak of the
// channel's id) and the rings (who may touch the channel's memory).
//
//   offer:   Unannounced ──▶ Announced ──▶ Rescinded ──▶ Released ──▶ gone
//            (host's)        (guest's)     (guest's,     (host's: it still closes)
//                                           to be let go)
//   rings:   Closed ──▶ Opening ──▶ Open ──▶ Closing ──▶ Closed
//            (guest's)  (host's)    (both's)  (host's: requests may still touch guest memory)
#pragma once

#include <array>
#include <cstdint>

#include "abi/vmbus.hpp"

namespace bulkhead::vmbus {

enum class OfferState : std::uint8_t { Unannounced, Announced, Rescinded, Released };
enum class RingState : std::uint8_t { Closed, Opening, Open, Closing };

/// What a channel is, as it is offered. It is part of the machine's identity.
struct OfferParameters {
  abi::Guid interface_type = {};
  abi::Guid instance = {};
  std::uint16_t flags = 0;           // abi::vmbus::OfferFlags
  std::uint16_t mmio_megabytes = 0;  // room that the guest is to find in VMBus's window
  std::array<std::uint8_t, abi::vmbus::kUserDataSize> user_data = {};

  bool operator==(const OfferParameters&) const = default;
};

/// What the guest says when it opens a channel.
struct OpenParameters {
  std::uint32_t open_id = 0;
  abi::vmbus::GpadlId ring_gpadl{0};
  abi::VpIndex target_vp{0};
  std::uint32_t downstream_page_offset = 0;
  std::array<std::uint8_t, abi::vmbus::kUserDataSize> user_data = {};

  bool operator==(const OpenParameters&) const = default;
};

struct ChannelState {
  OfferParameters parameters = {};
  abi::vmbus::ChannelId primary{0};  // of a sub-channel; 0 for a primary
  std::uint16_t sub_channel_index = 0;
  OfferState offer = OfferState::Unannounced;
  RingState ring = RingState::Closed;
  OpenParameters open = {};  // unless the rings are closed

  bool is_sub_channel() const { return sub_channel_index != 0; }
  bool operator==(const ChannelState&) const = default;
};

}  // namespace bulkhead::vmbus
