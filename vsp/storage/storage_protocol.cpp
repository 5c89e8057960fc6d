// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/storage_protocol.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace bulkhead::vsp::storage {

using abi::storage::Operation;
using abi::storage::Status;
using abi::storage::Version;

namespace {

constexpr std::array<std::string_view, 5> kStateNames = {"closed", "begun", "version agreed", "properties told",
                                                         "ready"};

bool is_supported(Version version) {
  return version == Version::V4_2 || version == Version::V5_1 || version == Version::V6_0 || version == Version::V6_2;
}

}  // namespace

Status StorageProtocol::advance(State from, State to) {
  if (state_ != from) return Status::InvalidDeviceState;
  state_ = to;
  return Status::Success;
}

Status StorageProtocol::agree_on(Version version) {
  if (state_ != State::Begun) return Status::InvalidDeviceState;
  if (!is_supported(version)) return Status::RevisionMismatch;
  version_ = version;
  state_ = State::VersionAgreed;
  return Status::Success;
}

void StorageProtocol::handle(abi::storage::Packet& packet) {
  auto& status = packet.header.status;
  switch (packet.header.operation) {
    case Operation::BeginInitialization: status = advance(State::Closed, State::Begun); break;
    case Operation::QueryProtocolVersion: status = agree_on(packet.version.version); break;
    case Operation::QueryProperties:
      status = advance(State::VersionAgreed, State::PropertiesTold);
      if (status != Status::Success) break;
      packet.properties = {};
      packet.properties.maximum_transfer = kMaximumTransfer;
      if (version_ >= Version::V5_1 && maximum_sub_channels_ > 0) {
        packet.properties.maximum_sub_channels = maximum_sub_channels_;
        packet.properties.flags = abi::storage::kSupportsSubChannels;
      }
      break;
    case Operation::EndInitialization: status = advance(State::PropertiesTold, State::Ready); break;
    // World-wide names are for Fibre Channel controllers.
    case Operation::FcHbaData: status = Status::InvalidDeviceRequest; break;
    default: status = Status::InvalidDeviceRequest;
  }
}

bool StorageProtocol::may_create(std::uint16_t count) const {
  const bool in_turn = state_ == State::PropertiesTold || state_ == State::Ready;
  return in_turn && version_ >= Version::V5_1 && count <= maximum_sub_channels_ - sub_channels_;
}

void StorageProtocol::close() {
  state_ = State::Closed;
  version_ = Version::V2_0;
  sub_channels_ = 0;
}

void StorageProtocol::save(state::SavedUnit& unit) const {
  unit.number("protocol-state", static_cast<std::uint64_t>(state_));
  unit.number("protocol-version", static_cast<std::uint64_t>(version_));
  unit.number("sub-channels", sub_channels_);
}

void StorageProtocol::restore(state::SavedReader& reader) {
  state_ = static_cast<State>(reader.number("protocol-state", static_cast<std::uint64_t>(State::Ready)));
  version_ = static_cast<Version>(reader.number("protocol-version", static_cast<std::uint64_t>(Version::V6_2)));
  sub_channels_ = static_cast<std::uint16_t>(reader.number("sub-channels", maximum_sub_channels_));
}

void StorageProtocol::inspect(state::Inspection& node) const {
  node.value("protocol", kStateNames[static_cast<std::size_t>(state_)]);
  if (state_ == State::Closed || state_ == State::Begun) return;
  const auto version = static_cast<unsigned>(version_);
  node.value("protocol-version", fmt::format("{}.{}", version >> 8, version & 0xff));
  node.value("sub-channels", std::uint64_t{sub_channels_});
}

}  // namespace bulkhead::vsp::storage
