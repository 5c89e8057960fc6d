// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/service.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "abi/vmbus.hpp"

namespace bulkhead::vsp::integration {

using namespace abi::integration;

namespace {

constexpr std::array<Version, 2> kFrameworkVersions = {Version{3, 0}, Version{1, 0}};

std::string to_text(const Version& version) { return fmt::format("{}.{}", version.major, version.minor); }

std::uint64_t to_number(const Version& version) { return std::uint64_t{version.major} << 16 | version.minor; }

Version to_version(std::uint64_t number) {
  return {static_cast<std::uint16_t>(number >> 16), static_cast<std::uint16_t>(number)};
}

}  // namespace

std::string_view to_text(Phase phase) {
  switch (phase) {
    case Phase::Closed: return "closed";
    case Phase::Opened: return "opened";
    case Phase::Negotiating: return "negotiating";
    case Phase::Incompatible: return "incompatible";
    case Phase::Ready: break;
  }
  return "ready";
}

Service::Service(const Profile& profile, state::Clock& clock)
    : profile_(profile),
      clock_(clock),
      timer_(clock.make_timer([this] { time_passed(); })),
      reader_(clock, [this](Result<vmbus::Packet> packet) { take(std::move(packet)); }) {}

vmbus::OfferParameters Service::offer() const {
  vmbus::OfferParameters parameters;
  parameters.interface_type = profile_.interface_type;
  parameters.instance = profile_.instance;
  parameters.flags = abi::vmbus::OfferFlags::kNamedPipeMode | abi::vmbus::OfferFlags::kEnumerateDeviceInterface;
  std::memcpy(parameters.user_data.data(), &kPipeMessageMode, sizeof kPipeMessageMode);
  return parameters;
}

Result<> Service::open(vmbus::Channel& channel) {
  channel_ = &channel;
  phase_ = Phase::Opened;
  timer_->arm(clock_.now());
  return {};
}

void Service::negotiate() {
  if (auto sent = send(frame_negotiation(++transaction_, kFrameworkVersions, profile_.message_versions)); !sent) {
    // The ring is new and empty: one that is too small for this is of no use to the service.
    phase_ = Phase::Incompatible;
    return malformed(sent.error().message());
  }
  phase_ = Phase::Negotiating;
}

void Service::close(vmbus::Channel& channel) {
  close_conversation();
  channel.close_finished();
}

void Service::close_conversation() {
  channel_ = nullptr;
  phase_ = Phase::Closed;
  versions_ = {};
  outstanding_.reset();
  timer_->disarm();
  reader_.stop();
  on_closed();
}

void Service::start() {
  // What came while the machine stood still, or before it was saved.
  if (channel_ != nullptr) reader_.resume(*channel_);
}

void Service::reset() {
  if (phase_ != Phase::Closed) close_conversation();
  answers_ = 0;
  faults_ = {};
  last_fault_.clear();
}

void Service::take(Result<vmbus::Packet> packet) {
  if (!packet) return malformed(packet.error().message());
  // No guest needs a completion here; one that asks for it gets an empty one.
  if (packet->completion_requested() && !channel_->send_completion(packet->transaction(), {})) return;
  if (packet->type() != abi::vmbus::PacketType::InBand) return malformed("a packet that is not in-band");
  auto message = parse(packet->payload());
  if (!message) return malformed(message.error().message());
  take_message(*message);
}

void Service::take_message(const Message& message) {
  if (phase_ == Phase::Negotiating && message.header.type == MessageType::Negotiate &&
      message.header.transaction == transaction_) {
    return take_choice(message);
  }
  const bool expected = outstanding_ && message.header.type == profile_.type &&
                        message.header.transaction == outstanding_->transaction &&
                        (message.header.flags & MessageFlags::kResponse) != 0;
  if (!expected) {
    ++faults_.unexpected;
    return;
  }
  ++answers_;
  abandon_request();
  if (!on_answer(message.header.status, message.body)) malformed("an answer that makes no sense");
}

void Service::take_choice(const Message& message) {
  auto choice = parse_choice(message.body, kFrameworkVersions, profile_.message_versions);
  if (!choice) {
    phase_ = Phase::Incompatible;
    return malformed(choice.error().message());
  }
  if (!*choice) {
    phase_ = Phase::Incompatible;
    return;
  }
  versions_ = **choice;
  phase_ = Phase::Ready;
  on_ready();
}

void Service::malformed(std::string why) {
  ++faults_.malformed;
  last_fault_ = std::move(why);
}

Result<> Service::check_ready() const {
  switch (phase_) {
    case Phase::Closed: return fail(fmt::format("the guest does not use the {}", profile_.title));
    case Phase::Opened:
    case Phase::Negotiating:
      return fail(fmt::format("the guest's part of the {} has not answered yet", profile_.title));
    case Phase::Incompatible:
      return fail(fmt::format("the guest speaks no version of the {} that we do", profile_.title));
    case Phase::Ready: break;
  }
  return {};
}

Result<> Service::send(const Bytes& message) {
  switch (channel_->send(message)) {
    case vmbus::SendStatus::Sent: return {};
    case vmbus::SendStatus::Full: return fail(fmt::format("the guest does not read what the {} sends", profile_.title));
    case vmbus::SendStatus::Impossible: break;
  }
  return fail(fmt::format("the guest has broken the ring of the {}, or made it too small", profile_.title));
}

Result<> Service::request(std::span<const std::uint8_t> body, state::Nanoseconds limit) {
  if (auto ready = check_ready(); !ready) return ready;
  if (outstanding_) return fail(fmt::format("the {} is still busy with another request", profile_.title));
  const std::uint8_t transaction = ++transaction_;
  if (auto sent = send(frame(profile_.type, versions_, transaction, body)); !sent) return sent;
  outstanding_ = {.transaction = transaction, .deadline = clock_.now() + limit};
  timer_->arm(outstanding_->deadline);
  return {};
}

void Service::abandon_request() {
  outstanding_.reset();
  timer_->disarm();
}

void Service::time_passed() {
  if (phase_ == Phase::Opened) return negotiate();
  if (!outstanding_) return;
  outstanding_.reset();
  ++faults_.unanswered;
  on_silence();
}

state::SavedUnit Service::save() const {
  state::SavedUnit unit(1);
  unit.number("phase", std::to_underlying(phase_));
  unit.number("framework-version", to_number(versions_.framework));
  unit.number("message-version", to_number(versions_.message));
  unit.number("transaction", transaction_);
  save_more(unit);
  return unit;
}

Result<> Service::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, profile_.name, 1);
  const auto phase = static_cast<Phase>(reader.number("phase", std::to_underlying(Phase::Ready)));
  const auto framework = reader.number("framework-version", UINT32_MAX);
  const auto message = reader.number("message-version", UINT32_MAX);
  const auto transaction = static_cast<std::uint8_t>(reader.number("transaction", UINT8_MAX));
  const auto rest = read_more(reader);
  if (auto read = reader.finish(); !read) return read;
  // The bus was restored before, and has told us of the channel if it is open.
  if ((phase != Phase::Closed) != (channel_ != nullptr)) {
    return fail(fmt::format("saved state of {}: its channel is in another state", profile_.name));
  }
  const Versions versions{.framework = to_version(framework), .message = to_version(message)};
  const bool offered =
      std::ranges::find(kFrameworkVersions, versions.framework) != kFrameworkVersions.end() &&
      std::ranges::find(profile_.message_versions, versions.message) != profile_.message_versions.end();
  if (offered != (phase == Phase::Ready)) {
    return fail(fmt::format("saved state of {}: versions that this host does not offer", profile_.name));
  }
  phase_ = phase;
  versions_ = versions;
  transaction_ = transaction;
  outstanding_.reset();
  if (phase_ == Phase::Opened) timer_->arm(clock_.now());
  rest();
  on_restored();
  return {};
}

void Service::inspect(state::Inspection& node) const {
  node.value("phase", integration::to_text(phase_));
  if (phase_ == Phase::Ready) {
    node.value("framework-version", to_text(versions_.framework));
    node.value("message-version", to_text(versions_.message));
  }
  node.value("request-under-way", outstanding_.has_value());
  node.value("answers", answers_);
  node.value("unanswered-requests", faults_.unanswered);
  node.value("unexpected-messages", faults_.unexpected);
  node.value("malformed-messages", faults_.malformed);
  if (!last_fault_.empty()) node.value("last-fault", last_fault_);
  inspect_more(node);
}

}  // namespace bulkhead::vsp::integration
