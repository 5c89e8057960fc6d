// SPDX-License-Identifier: Apache-2.0
#include "tests/vsp/integration/service_guest.hpp"

#include <fmt/format.h>

#include <cstdlib>

namespace bulkhead::vsp::integration {

using abi::integration::Negotiate;
using abi::integration::PipeHeader;

namespace {

void append(Bytes& bytes, std::span<const std::uint8_t> more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

}  // namespace

Offered offered_in(const HostMessage& negotiation) {
  const auto counts = negotiation.as<Negotiate>();
  Offered offered;
  for (unsigned index = 0; index < counts.framework_version_count + counts.message_version_count; ++index) {
    Version version{};
    std::memcpy(&version, negotiation.body.data() + sizeof counts + index * sizeof version, sizeof version);
    (index < counts.framework_version_count ? offered.frameworks : offered.messages).push_back(version);
  }
  return offered;
}

ServiceDriver::ServiceDriver(FakeClock& clock, Service& service, vmbus::FakeGuest& guest)
    : clock_(clock), service_(service), guest_(guest), id_(*guest.bus().offer(service.offer(), service)) {
  guest.connect();
}

void ServiceDriver::open(std::size_t pages) {
  channel_ = guest_.open(id_, pages);
  if (!channel_) std::abort();
  clock_.advance(state::Nanoseconds(0));
}

void ServiceDriver::close() {
  guest_.close(*channel_);
  guest_.take_back(*channel_);
  channel_.reset();
}

void ServiceDriver::connect(Version message, Version framework) {
  open();
  choose(*receive(), framework, message);
}

void ServiceDriver::choose(const HostMessage& negotiation, Version framework, Version message) {
  Bytes body = vmbus::bytes_of(Negotiate{.framework_version_count = 1, .message_version_count = 1, .reserved = 0});
  append(body, vmbus::bytes_of(framework));
  append(body, vmbus::bytes_of(message));
  answer(negotiation, body);
}

std::optional<HostMessage> ServiceDriver::receive() {
  auto packet = channel_->from_host.read();
  // Completions are the answers to packets that no guest sends.
  while (packet && packet->descriptor.type == abi::vmbus::PacketType::Completion) packet = channel_->from_host.read();
  if (!packet) return std::nullopt;
  guest_.signal(id_);
  const std::span payload(packet->payload);
  if (payload.size() < sizeof(PipeHeader) + sizeof(MessageHeader)) std::abort();
  HostMessage message{};
  std::memcpy(&message.header, payload.data() + sizeof(PipeHeader), sizeof message.header);
  const auto body = payload.subspan(sizeof(PipeHeader) + sizeof(MessageHeader), message.header.size);
  message.body.assign(body.begin(), body.end());
  return message;
}

void ServiceDriver::answer(const HostMessage& request, std::span<const std::uint8_t> body, Status status) {
  MessageHeader header = request.header;
  header.flags = MessageFlags::kTransaction | MessageFlags::kResponse;
  header.status = status;
  header.size = static_cast<std::uint16_t>(body.size());
  send(header, body);
}

void ServiceDriver::send(const MessageHeader& header, std::span<const std::uint8_t> body) {
  Bytes payload = vmbus::bytes_of(
      PipeHeader{.type = PipeHeader::kData, .size = static_cast<std::uint32_t>(sizeof(MessageHeader) + body.size())});
  append(payload, vmbus::bytes_of(header));
  append(payload, body);
  if (!send_raw(payload)) std::abort();
}

bool ServiceDriver::send_raw(std::span<const std::uint8_t> payload, std::uint16_t flags, bool signals) {
  const bool sent = channel_->to_host.write(abi::vmbus::PacketType::InBand, flags, 9, {}, payload);
  if (signals) guest_.signal(id_);
  return sent;
}

std::string ServiceDriver::inspected(const std::string& name) const {
  state::Inspection node;
  service_.inspect(node);
  for (const auto& [key, value] : node.values()) {
    if (key == name) return std::visit([](const auto& content) { return fmt::format("{}", content); }, value);
  }
  return {};
}

}  // namespace bulkhead::vsp::integration
