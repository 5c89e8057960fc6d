// SPDX-License-Identifier: Apache-2.0
//
// How guest and controller come to terms, as a pure state machine; one for all channels of a controller.
//
//   Closed ─▶ Begun ─▶ VersionAgreed ─▶ PropertiesTold ─▶ Ready
//     BEGIN_   QUERY_     QUERY_           END_
//     INIT     PROTOCOL   PROPERTIES       INIT            (CREATE_SUB_CHANNELS in the last two)
//
// An operation out of its turn changes nothing and is answered with "invalid device state".
#pragma once

#include <cstdint>

#include "abi/storage.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"

namespace bulkhead::vsp::storage {

class StorageProtocol {
 public:
  /// Bytes of one request: what fits comfortably into a ring as a list of pages.
  static constexpr std::uint32_t kMaximumTransfer = 256 * 1024;

  explicit StorageProtocol(std::uint16_t maximum_sub_channels) : maximum_sub_channels_(maximum_sub_channels) {}

  bool is_ready() const { return state_ == State::Ready; }
  /// Bytes of a packet in the version that was agreed on.
  std::size_t packet_size() const {
    return version_ >= abi::storage::Version::V5_1 ? sizeof(abi::storage::Packet) : abi::storage::kPacketSizeBefore5_1;
  }

  /// Answers an operation of the initialization in its place. The status is in the header.
  void handle(abi::storage::Packet& packet);
  /// CREATE_SUB_CHANNELS: whether there can be that many more. `created` counts them.
  bool may_create(std::uint16_t count) const;
  void created(std::uint16_t count) { sub_channels_ = static_cast<std::uint16_t>(sub_channels_ + count); }
  /// The guest has closed the channel, or was reset.
  void close();

  void save(state::SavedUnit& unit) const;
  void restore(state::SavedReader& reader);
  void inspect(state::Inspection& node) const;

 private:
  enum class State : std::uint8_t { Closed, Begun, VersionAgreed, PropertiesTold, Ready };

  abi::storage::Status advance(State from, State to);
  abi::storage::Status agree_on(abi::storage::Version version);

  std::uint16_t maximum_sub_channels_;
  State state_ = State::Closed;
  abi::storage::Version version_ = abi::storage::Version::V2_0;
  std::uint16_t sub_channels_ = 0;
};

}  // namespace bulkhead::vsp::storage
