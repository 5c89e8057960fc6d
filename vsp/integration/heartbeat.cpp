// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/heartbeat.hpp"

#include <array>

namespace bulkhead::vsp::integration {

using namespace abi::integration;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kInterval = 2s;
constexpr state::Nanoseconds kLimit = 4s;
constexpr std::array<Version, 2> kVersions = {Version{3, 0}, Version{1, 0}};
constexpr Profile kProfile = {.name = "heartbeat",
                              .title = "heartbeat",
                              .interface_type = kHeartbeatInterface,
                              .instance = kHeartbeatInstance,
                              .type = MessageType::Heartbeat,
                              .message_versions = kVersions};

std::string_view to_text(ApplicationState state) {
  switch (state) {
    case ApplicationState::Healthy: return "healthy";
    case ApplicationState::Critical: return "critical";
    case ApplicationState::Stopped: return "stopped";
    case ApplicationState::Unknown: break;
  }
  return "unknown";
}

}  // namespace

std::string_view to_text(HeartbeatState state) {
  switch (state) {
    case HeartbeatState::Ok: return "ok";
    case HeartbeatState::Lost: return "lost";
    case HeartbeatState::NoContact: break;
  }
  return "no contact";
}

Heartbeat::Heartbeat(state::Clock& clock, std::function<void(HeartbeatState)> changed)
    : Service(kProfile, clock), changed_(std::move(changed)), timer_(clock.make_timer([this] { beat(); })) {}

void Heartbeat::set(HeartbeatState state) {
  if (state_ == state) return;
  state_ = state;
  if (changed_) changed_(state);
}

void Heartbeat::beat() {
  const abi::integration::Heartbeat message{
      .sequence = ++sequence_, .application_state = ApplicationState::Unknown, .reserved = {}};
  // A guest that has not even taken the last ones out of its ring is not there either; a later beat may find room.
  if (!request(bytes_of(message), kLimit)) {
    set(HeartbeatState::Lost);
    timer_->arm(clock().now() + kInterval);
  }
}

void Heartbeat::on_ready() { beat(); }

void Heartbeat::on_closed() {
  timer_->disarm();
  applications_ = ApplicationState::Unknown;
  set(HeartbeatState::NoContact);
}

bool Heartbeat::on_answer(Status, std::span<const std::uint8_t> body) {
  timer_->arm(clock().now() + kInterval);
  const auto answer = front_of<abi::integration::Heartbeat>(body);
  if (!answer || answer->sequence != sequence_ + 1) return false;
  applications_ = answer->application_state;
  set(HeartbeatState::Ok);
  return true;
}

void Heartbeat::on_silence() {
  set(HeartbeatState::Lost);
  beat();
}

void Heartbeat::on_restored() {
  if (phase() == Phase::Ready) timer_->arm(clock().now());
}

void Heartbeat::inspect_more(state::Inspection& node) const {
  node.value("heartbeat", integration::to_text(state_));
  node.value("applications", to_text(applications_));
  node.value("sequence", sequence_);
}

void Heartbeat::save_more(state::SavedUnit& unit) const { unit.number("sequence", sequence_); }

std::function<void()> Heartbeat::read_more(state::SavedReader& reader) {
  const auto sequence = reader.number("sequence");
  return [this, sequence] {
    sequence_ = sequence;
    state_ = HeartbeatState::NoContact;
  };
}

}  // namespace bulkhead::vsp::integration
