// SPDX-License-Identifier: Apache-2.0
//
// Saved state and inspection of a controller. Nothing runs while it is stopped, so what is under way is only what is
// parked: those packets are saved, and are taken again as if the guest had just sent them.
#include <fmt/format.h>

#include "vsp/storage/storage_controller.hpp"

namespace bulkhead::vsp::storage {

namespace {

constexpr std::size_t kMaximumParked = 4096;
constexpr std::size_t kMaximumPacket = std::size_t{8} * UINT16_MAX;

}  // namespace

state::SavedUnit StorageController::save() const {
  state::SavedUnit unit(1);
  protocol_.save(unit);
  unit.number("announcement-due", announcement_due_);
  unit.number("commands-came", commands_came_);
  auto units = target_.save_units();
  unit.number("unit-count", units.size());
  unit.list("units", std::move(units));
  state::SavedList parked;
  for (const Request* request : target_.parked()) {
    state::SavedUnit saved(1);
    saved.number("channel", std::to_underlying(request->channel));
    saved.bytes("packet", request->packet.bytes());
    parked.push_back(std::move(saved));
  }
  unit.number("parked-count", parked.size());
  unit.list("parked", std::move(parked));
  return unit;
}

Result<> StorageController::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  StorageProtocol protocol(settings_.maximum_sub_channels);
  protocol.restore(reader);
  const bool announcement_due = reader.flag("announcement-due");
  const bool commands_came = reader.flag("commands-came");
  const auto units = reader.list("units", reader.number("unit-count", kMaximumUnits));
  const auto parked = reader.list("parked", reader.number("parked-count", kMaximumParked));
  if (auto read = reader.finish(); !read) return read;

  std::vector<std::unique_ptr<Request>> requests;
  for (const auto& entry : parked) {
    state::SavedReader request_reader(entry, "parked storage request", 1);
    const abi::vmbus::ChannelId id{
        static_cast<std::uint32_t>(request_reader.number("channel", abi::vmbus::kMaximumChannelId))};
    auto bytes = request_reader.bytes_up_to("packet", kMaximumPacket);
    if (auto read = request_reader.finish(); !read) return read;
    auto packet = vmbus::Packet::parse(std::move(bytes));
    if (!packet) return std::unexpected(packet.error().within(fmt::format("saved state of {}", name())));
    const auto payload = packet->payload().size();
    if (!channels_.contains(id) || payload < protocol.packet_size()) {
      return fail(fmt::format("saved state of {}: a request of a channel that is not open", name()));
    }
    auto request = std::make_unique<Request>(id, std::move(*packet));
    request->size = std::min(payload, sizeof request->wire);
    std::memcpy(&request->wire, request->packet.payload().data(), request->size);
    request->address = address_of(request->wire.scsi);
    request->wire.scsi.srb_status = 0;
    request->wire.scsi.scsi_status = 0;
    if (request->operation() != abi::storage::Operation::ExecuteSrb || !find_data(*request)) {
      return fail(fmt::format("saved state of {}: a request that cannot be", name()));
    }
    requests.push_back(std::move(request));
  }
  if (auto restored = target_.restore_units(units); !restored) return restored;
  protocol_ = protocol;
  announcement_due_ = announcement_due;
  commands_came_ = commands_came;
  for (auto& request : requests) {
    ++channels_.at(request->channel).under_way;
    target_.adopt_parked(std::move(request));
  }
  return {};
}

void StorageController::inspect(state::Inspection& node) const {
  protocol_.inspect(node);
  node.value("open-channels", std::uint64_t{channels_.size()});
  node.value("malformed-packets", malformed_packets_);
  target_.inspect(node);
}

}  // namespace bulkhead::vsp::storage
