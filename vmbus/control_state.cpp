// SPDX-License-Identifier: Apache-2.0
//
// Saved state and inspection of the control plane.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "vmbus/control_plane.hpp"
#include "vmbus/message_table.hpp"

namespace bulkhead::vmbus {

using namespace abi::vmbus;

namespace {

constexpr std::array<std::string_view, 4> kConnectionNames = {"disconnected", "connected", "offers delivered",
                                                              "disconnecting"};
constexpr std::array<std::string_view, 4> kOfferNames = {"unannounced", "announced", "rescinded", "released"};
constexpr std::array<std::string_view, 4> kRingNames = {"closed", "opening", "open", "closing"};

template <typename T>
std::span<const std::uint8_t> bytes_of(const T& value) {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

template <typename T>
T value_of(const state::SavedBytes& bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

template <typename Enumeration>
Enumeration read_enumeration(state::SavedReader& reader, std::string_view name, Enumeration last) {
  return static_cast<Enumeration>(reader.number(name, std::to_underlying(last)));
}

std::uint32_t read_word(state::SavedReader& reader, std::string_view name) {
  return static_cast<std::uint32_t>(reader.number(name, UINT32_MAX));
}

state::SavedUnit save_channel(ChannelId id, const ChannelState& channel) {
  state::SavedUnit unit(1);
  unit.number("channel", std::to_underlying(id));
  unit.number("primary", std::to_underlying(channel.primary));
  unit.number("sub-channel-index", channel.sub_channel_index);
  unit.bytes("interface", bytes_of(channel.parameters.interface_type));
  unit.bytes("instance", bytes_of(channel.parameters.instance));
  unit.number("offer", std::to_underlying(channel.offer));
  unit.number("ring", std::to_underlying(channel.ring));
  unit.number("open-id", channel.open.open_id);
  unit.number("ring-gpadl", std::to_underlying(channel.open.ring_gpadl));
  unit.number("target-vp", std::to_underlying(channel.open.target_vp));
  unit.number("downstream-page-offset", channel.open.downstream_page_offset);
  unit.bytes("user-data", channel.open.user_data);
  return unit;
}

struct RestoredChannel {
  ChannelId id;
  ChannelState state;
};

Result<RestoredChannel> restore_channel(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, "vmbus channel", 1);
  RestoredChannel channel;
  channel.id = ChannelId{static_cast<std::uint32_t>(reader.number("channel", kMaximumChannelId))};
  channel.state.primary = ChannelId{static_cast<std::uint32_t>(reader.number("primary", kMaximumChannelId))};
  channel.state.sub_channel_index = static_cast<std::uint16_t>(reader.number("sub-channel-index", UINT16_MAX));
  channel.state.parameters.interface_type = value_of<abi::Guid>(reader.bytes("interface", sizeof(abi::Guid)));
  channel.state.parameters.instance = value_of<abi::Guid>(reader.bytes("instance", sizeof(abi::Guid)));
  channel.state.offer = read_enumeration(reader, "offer", OfferState::Released);
  channel.state.ring = read_enumeration(reader, "ring", RingState::Closing);
  channel.state.open.open_id = read_word(reader, "open-id");
  channel.state.open.ring_gpadl = GpadlId{read_word(reader, "ring-gpadl")};
  channel.state.open.target_vp = abi::VpIndex{read_word(reader, "target-vp")};
  channel.state.open.downstream_page_offset = read_word(reader, "downstream-page-offset");
  channel.state.open.user_data =
      value_of<decltype(OpenParameters::user_data)>(reader.bytes("user-data", sizeof(OpenParameters::user_data)));
  if (auto read = reader.finish(); !read) return std::unexpected(read.error());
  return channel;
}

}  // namespace

state::SavedUnit ControlPlane::save() const {
  state::SavedUnit unit(1);
  unit.number("connection", std::to_underlying(state_));
  unit.number("version", std::to_underlying(version_));
  unit.number("target-vp", std::to_underlying(target_vp_));
  unit.number("after-disconnect", std::to_underlying(after_disconnect_));
  unit.number("wanted-version", std::to_underlying(wanted_version_));
  unit.number("wanted-target-vp", std::to_underlying(wanted_target_vp_));
  unit.number("interrupt-page", interrupt_page_);
  unit.number("wanted-interrupt-page", wanted_interrupt_page_);
  state::SavedList channels;
  for (const auto& [id, channel] : channels_) channels.push_back(save_channel(id, channel));
  unit.number("channel-count", channels.size());
  unit.list("channels", std::move(channels));
  unit.number("gpadl-count", gpadls_.size());
  unit.list("gpadls", gpadls_.save());
  return unit;
}

Result<> ControlPlane::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, "vmbus", 1);
  ControlPlane restored(vp_count_);
  restored.state_ = read_enumeration(reader, "connection", ConnectionState::Disconnecting);
  restored.version_ = Version{read_word(reader, "version")};
  restored.target_vp_ = abi::VpIndex{read_word(reader, "target-vp")};
  restored.after_disconnect_ = read_enumeration(reader, "after-disconnect", AfterDisconnect::AnswerContact);
  restored.wanted_version_ = Version{read_word(reader, "wanted-version")};
  restored.wanted_target_vp_ = abi::VpIndex{read_word(reader, "wanted-target-vp")};
  restored.interrupt_page_ = reader.number("interrupt-page");
  restored.wanted_interrupt_page_ = reader.number("wanted-interrupt-page");
  const auto channels = reader.list("channels", reader.number("channel-count", kMaximumChannelId));
  const auto gpadls = reader.list("gpadls", reader.number("gpadl-count", GpadlTable::kMaximumGpadls));
  if (auto read = reader.finish(); !read) return read;
  if (restored.state_ != ConnectionState::Disconnected && !is_supported(restored.version_)) {
    return fail("saved state of vmbus: a version that is not spoken");
  }
  if (auto read = restored.gpadls_.restore(gpadls); !read) return read;

  std::size_t primaries = 0;
  for (const auto& unit : channels) {
    auto channel = restore_channel(unit);
    if (!channel) return std::unexpected(channel.error());
    auto& [id, state] = *channel;
    const ChannelState* offered = find(state.is_sub_channel() ? state.primary : id);
    const bool known = offered != nullptr && !offered->is_sub_channel() &&
                       offered->parameters.interface_type == state.parameters.interface_type &&
                       offered->parameters.instance == state.parameters.instance;
    // Of a channel that was taken away, only its number waits for the guest to let go of it.
    const bool only_a_number = state.ring == RingState::Closed &&
                               (state.offer == OfferState::Rescinded || state.offer == OfferState::Released);
    if (!known && !only_a_number) {
      return fail(fmt::format("saved state of vmbus: the machine has no such channel {}", std::to_underlying(id)));
    }
    if (known) state.parameters = offered->parameters;
    if (known && !state.is_sub_channel()) ++primaries;
    if (state.ring != RingState::Closed) {
      const Gpadl* gpadl = restored.gpadls_.find({id, state.open.ring_gpadl});
      if (gpadl == nullptr || gpadl->users == 0 || check_ring(gpadl, state.open.downstream_page_offset)) {
        return fail(fmt::format("saved state of vmbus: channel {} has no rings", std::to_underlying(id)));
      }
    }
    if (!restored.channels_.emplace(id, state).second) return fail("saved state of vmbus: a channel twice");
  }
  const auto offered = std::ranges::count_if(channels_, [](const auto& c) { return !c.second.is_sub_channel(); });
  if (primaries != static_cast<std::size_t>(offered)) {
    return fail("saved state of vmbus: the machine has channels that it does not know");
  }
  *this = std::move(restored);
  return {};
}

void ControlPlane::inspect(state::Inspection& node) const {
  node.value("connection", kConnectionNames[std::to_underlying(state_)]);
  if (state_ != ConnectionState::Disconnected) {
    const std::uint32_t version = std::to_underlying(version_);
    node.value("version", fmt::format("{}.{}", version >> 16, version & 0xffff));
    node.value("message-vp", std::uint64_t{std::to_underlying(target_vp_)});
  }
  node.value("rejected-messages", rejected_messages_);
  if (!last_rejection_.empty()) node.value("last-rejection", last_rejection_);
  for (const auto& [id, channel] : channels_) {
    auto& child = node.child(fmt::format("channel {}", std::to_underlying(id)));
    child.value("offer", kOfferNames[std::to_underlying(channel.offer)]);
    child.value("ring", kRingNames[std::to_underlying(channel.ring)]);
    if (channel.is_sub_channel()) {
      child.value("primary", std::uint64_t{std::to_underlying(channel.primary)});
      child.value("index", std::uint64_t{channel.sub_channel_index});
    }
    if (channel.ring != RingState::Closed) {
      child.value("target-vp", std::uint64_t{std::to_underlying(channel.open.target_vp)});
    }
  }
  gpadls_.inspect(node.child("gpadls"));
}

}  // namespace bulkhead::vmbus
