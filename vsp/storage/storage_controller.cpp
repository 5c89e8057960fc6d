// SPDX-License-Identifier: Apache-2.0
//
// The way of requests through a controller. What it saves of itself is in storage_controller_state.cpp.
#include "vsp/storage/storage_controller.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace bulkhead::vsp::storage {

using abi::storage::Operation;
using abi::storage::SrbStatus;
using NtStatus = abi::storage::Status;

namespace {

/// So many packets of a channel at a time, so that no channel keeps the others waiting.
constexpr unsigned kBatch = 64;

bool is_command(Operation operation) {
  return operation == Operation::ExecuteSrb || operation == Operation::ResetLun ||
         operation == Operation::ResetAdapter || operation == Operation::ResetBus;
}

}  // namespace

StorageController::StorageController(const engine::GuestMemory& memory, StorageHost& host, ControllerSettings settings)
    : memory_(memory),
      host_(host),
      settings_(std::move(settings)),
      protocol_(settings_.maximum_sub_channels),
      target_(host, [this](std::unique_ptr<Request> request) {
        finished_.push_back(std::move(request));
        schedule();
      }) {}

vmbus::OfferParameters StorageController::offer() const {
  vmbus::OfferParameters parameters;
  parameters.flags = abi::vmbus::OfferFlags::kEnumerateDeviceInterface;
  if (!is_ide()) {
    parameters.interface_type = abi::storage::kScsiInterface;
    parameters.instance = settings_.instance;
    return parameters;
  }
  parameters.interface_type = abi::storage::kIdeInterface;
  // Guests take controller and disk out of the instance.
  parameters.instance = abi::Guid::of("00000000-0000-8899-0000-000000000000");
  parameters.instance.first = settings_.ide_path;
  parameters.instance.second = settings_.ide_target;
  const abi::storage::IdeOfferData data{.reserved = 0,
                                        .path = settings_.ide_path,
                                        .target = settings_.ide_target,
                                        .reserved2 = 0,
                                        .flags = abi::storage::kIdeOfferFlags};
  std::memcpy(parameters.user_data.data(), &data, sizeof data);
  return parameters;
}

Address StorageController::address_of(const abi::storage::ScsiRequest& request) const {
  if (is_ide()) return address_of_lun(request.lun);
  return {request.path, request.target, request.lun};
}

Result<> StorageController::attach(std::uint8_t lun, std::unique_ptr<LogicalUnit> unit, Limits limits) {
  const std::uint8_t count = is_ide() ? 1 : kMaximumUnits;
  if (lun >= count) return fail(fmt::format("{} has the numbers 0 to {}, not {}", settings_.name, count - 1, lun));
  if (auto attached = target_.attach(address_of_lun(lun), std::move(unit), limits); !attached) return attached;
  announce_change();
  return {};
}

Result<> StorageController::detach(std::uint8_t lun, std::function<void(Result<>)> gone) {
  if (auto detached = target_.detach(address_of_lun(lun), std::move(gone)); !detached) return detached;
  announce_change();
  return {};
}

Result<> StorageController::capacity_changed(std::uint8_t lun) {
  LogicalUnit* unit = find(lun);
  if (unit == nullptr) return fail(fmt::format("{} has no disk {}", settings_.name, lun));
  unit->raise(scsi::sense::kCapacityChanged);
  announce_change();
  return {};
}

Result<> StorageController::set_limits(std::uint8_t lun, Limits limits) {
  return target_.set_limits(address_of_lun(lun), limits);
}

void StorageController::announce_change() {
  announcement_due_ = true;
  schedule();
}

void StorageController::schedule() {
  if (scheduled_.exchange(true)) return;
  host_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) work();
  });
}

void StorageController::work() {
  scheduled_ = false;
  if (channel_is_closing_.exchange(false)) abort_of_closing_channels();
  Arrived arrived;
  {
    std::lock_guard lock(host_.bus_lock());
    send_completions();
    if (running_) {
      arrived = receive_all();
      send_announcement();
    }
  }
  begin(std::move(arrived));
}

Result<> StorageController::open(vmbus::Channel& channel) {
  channels_.emplace(channel.id(), OpenChannel{.channel = &channel});
  schedule();
  return {};
}

void StorageController::restored(vmbus::Channel& channel) {
  channels_.insert_or_assign(channel.id(), OpenChannel{.channel = &channel});
}

void StorageController::readable(vmbus::Channel& channel) {
  const auto found = channels_.find(channel.id());
  if (found == channels_.end()) return;
  found->second.readable = true;
  schedule();
}

void StorageController::close(vmbus::Channel& channel) {
  const auto found = channels_.find(channel.id());
  if (found == channels_.end()) return channel.close_finished();
  if (channel.sub_channel_index() == 0) {
    protocol_.close();
    commands_came_ = false;
  }
  found->second.closing = true;
  if (found->second.under_way == 0) {
    channels_.erase(found);
    return channel.close_finished();
  }
  channel_is_closing_ = true;
  schedule();
}

void StorageController::send_completions() {
  for (auto& request : std::exchange(finished_, {})) {
    const auto found = channels_.find(request->channel);
    if (found == channels_.end()) continue;  // it was restored without it
    --found->second.under_way;
    if (!found->second.closing) complete(found->second, *request);
  }
  // A guest that runs as soon as the first is there would ask for the next before it sees the others.
  for (const auto& [id, open] : channels_) open.channel->signal_gathered();
  close_what_is_over();
}

void StorageController::close_what_is_over() {
  for (;;) {
    const auto over = std::ranges::find_if(
        channels_, [](const auto& entry) { return entry.second.closing && entry.second.under_way == 0; });
    if (over == channels_.end()) return;
    vmbus::Channel& channel = *over->second.channel;
    channels_.erase(over);
    channel.close_finished();
  }
}

void StorageController::complete(OpenChannel& open, const Request& request) {
  abi::storage::Packet wire = request.wire;
  wire.header.operation = Operation::CompleteIo;
  // An error means that the guest has broken its ring: it harms nobody else.
  static_cast<void>(open.channel->send_completion(request.packet.transaction(), wire_bytes(wire).first(request.size),
                                                  vmbus::Notice::Gathered));
}

StorageController::Arrived StorageController::receive_all() {
  Arrived arrived;
  // Creating sub-channels may open and close others, but only on the bus's next turn: the map stays as it is here.
  for (auto& [id, open] : channels_) {
    if (open.readable && !open.closing) receive(open, arrived);
    open.channel->signal_gathered();
  }
  return arrived;
}

void StorageController::receive(OpenChannel& open, Arrived& arrived) {
  open.readable = false;
  for (unsigned count = 0; count < kBatch; ++count) {
    auto packet = open.channel->receive();
    if (!packet) {
      ++malformed_packets_;
      if (open.channel->is_broken()) return;
      continue;
    }
    if (!*packet) return;
    if (auto request = take(open, std::move(**packet))) arrived.push_back(std::move(request));
  }
  open.readable = true;
  schedule();
}

/// Makes a request of a packet. Null: it was answered, or asks for no answer.
std::unique_ptr<Request> StorageController::take(OpenChannel& open, vmbus::Packet packet) {
  const bool wants_answer = packet.completion_requested() && packet.type() != abi::vmbus::PacketType::Completion;
  if (!wants_answer) {
    ++malformed_packets_;
    return nullptr;
  }
  auto request = std::make_unique<Request>(open.channel->id(), std::move(packet));
  const auto payload = request->packet.payload();
  request->size = std::clamp(payload.size(), sizeof(abi::storage::PacketHeader), sizeof request->wire);
  std::memcpy(&request->wire, payload.data(), std::min(payload.size(), sizeof request->wire));
  auto& header = request->wire.header;
  if (is_command(request->operation())) {
    request->address = address_of(request->wire.scsi);
    request->wire.scsi.srb_status = 0;
    request->wire.scsi.scsi_status = 0;
    if (protocol_.is_ready() && payload.size() >= protocol_.packet_size()) {
      commands_came_ = true;
      ++open.under_way;
      return request;
    }
    header.status = protocol_.is_ready() ? NtStatus::InvalidParameter : NtStatus::InvalidDeviceState;
    ++malformed_packets_;
  } else if (payload.size() < abi::storage::kPacketSizeBefore5_1) {
    header.status = NtStatus::InvalidParameter;
    ++malformed_packets_;
  } else if (open.channel->sub_channel_index() != 0) {
    header.status = NtStatus::InvalidDeviceRequest;  // the primary channel speaks for all
  } else if (request->operation() == Operation::CreateSubChannels) {
    return create_sub_channels(*open.channel, *request), nullptr;
  } else {
    protocol_.handle(request->wire);
  }
  complete(open, *request);
  return nullptr;
}

void StorageController::create_sub_channels(vmbus::Channel& channel, Request& request) {
  const std::uint16_t count = request.wire.sub_channel_count;
  request.wire.header.status = protocol_.may_create(count) ? NtStatus::Success : NtStatus::InvalidParameter;
  if (request.wire.header.status == NtStatus::Success && count > 0) {
    if (channel.offer_sub_channels(count))
      protocol_.created(count);
    else
      request.wire.header.status = NtStatus::Unsuccessful;
  }
  complete(channels_.at(channel.id()), request);
}

void StorageController::send_announcement() {
  if (!announcement_due_) return;
  if (!protocol_.is_ready()) {
    announcement_due_ = false;  // the guest will look by itself
    return;
  }
  // Between the end of the initialization and its first command Linux is not ready to hear of it, and would fall.
  if (!commands_came_) return;
  for (const auto& [id, open] : channels_) {
    if (open.closing || open.channel->sub_channel_index() != 0) continue;
    abi::storage::Packet packet{};
    packet.header.operation = Operation::EnumerateBus;
    const auto bytes = wire_bytes(packet).first(protocol_.packet_size());
    // Where there is no room, the guest's signal about it comes back here.
    if (open.channel->send(bytes) != vmbus::SendStatus::Full) announcement_due_ = false;
  }
}

void StorageController::begin(Arrived arrived) {
  for (auto& request : arrived) {
    if (request->operation() != Operation::ExecuteSrb || find_data(*request)) {
      target_.begin(std::move(request));
      continue;
    }
    request->wire.scsi.srb_status = static_cast<std::uint8_t>(SrbStatus::InvalidRequest);
    request->wire.scsi.transfer_length = 0;
    request->wire.scsi.sense_length = 0;
    request->wire.header.status = NtStatus::InvalidParameter;
    finished_.push_back(std::move(request));
    schedule();
  }
}

/// The command and its memory. False: the command is too long, or the memory is not the guest's.
bool StorageController::find_data(Request& request) const {
  const auto& scsi = request.wire.scsi;
  ScsiCommand& command = request.command;
  if (scsi.cdb_length > command.cdb.size() || scsi.transfer_length > StorageProtocol::kMaximumTransfer) return false;
  command.cdb = {};
  std::copy_n(scsi.payload, scsi.cdb_length, command.cdb.begin());
  command.direction = scsi.direction;
  command.data.clear();
  command.data_size = scsi.transfer_length;
  if (command.data_size == 0) return true;
  auto segments = request.packet.ranges().segments(memory_, 0, command.data_size, command.reads());
  if (!segments) return false;
  for (const auto& segment : *segments) command.data.push_back({segment.data(), segment.size()});
  return true;
}

void StorageController::abort_of_closing_channels() {
  std::vector<abi::vmbus::ChannelId> closing;
  {
    std::lock_guard lock(host_.bus_lock());
    for (const auto& [id, open] : channels_) {
      if (open.closing) closing.push_back(id);
    }
  }
  for (const auto id : closing) target_.abort(id);
}

void StorageController::start() {
  running_ = true;
  for (auto& [id, open] : channels_) open.readable = true;
  // Not under the lock, which the caller has: on the next turn of the event loop.
  host_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && running_) target_.retry_parked();
  });
  schedule();
}

void StorageController::stop() {
  running_ = false;
  target_.drain();
  send_completions();
}

void StorageController::reset() {
  target_.power_on();
  send_completions();
  protocol_.close();
  commands_came_ = false;
  announcement_due_ = false;
}

}  // namespace bulkhead::vsp::storage
