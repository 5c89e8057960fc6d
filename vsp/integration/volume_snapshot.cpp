// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/volume_snapshot.hpp"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace bulkhead::vsp::integration {

using namespace abi::integration;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kAnswerLimit = 60s;
constexpr state::Nanoseconds kRetry = 2s;
constexpr state::Nanoseconds kShortestLimit = 1s;
constexpr state::Nanoseconds kLongestLimit = 600s;
constexpr std::array<Version, 1> kVersions = {Version{5, 0}};
constexpr Profile kProfile = {.name = "volume-snapshot",
                              .title = "volume snapshot service",
                              .interface_type = kVolumeSnapshotInterface,
                              .instance = kVolumeSnapshotInstance,
                              .type = MessageType::VolumeSnapshot,
                              .message_versions = kVersions};

std::string_view word(VolumeSnapshot::State state) {
  using enum VolumeSnapshot::State;
  switch (state) {
    case Thawed: return "thawed";
    case Asking: return "asking";
    case Freezing: return "freezing";
    case Frozen: return "frozen";
    case Thawing: break;
  }
  return "thawing";
}

Result<> accepted(Status status, std::string_view what) {
  if (status == Status::Ok) return {};
  if (status == Status::Fail)
    return fail(fmt::format("the guest cannot {}; perhaps its snapshot daemon does not run", what));
  return fail(fmt::format("the guest refuses to {}, with the status {:#x}", what, std::to_underlying(status)));
}

}  // namespace

VolumeSnapshot::VolumeSnapshot(state::Clock& clock, std::function<void()> let_go)
    : Service(kProfile, clock),
      let_go_(std::move(let_go)),
      limit_timer_(clock.make_timer([this] { limit_passed(); })),
      retry_timer_(clock.make_timer([this] { send_thaw(); })) {}

Result<> VolumeSnapshot::send(SnapshotOperation operation) {
  const abi::integration::VolumeSnapshot body{.operation = operation, .reserved = {}, .flags = 0};
  return request(bytes_of(body), kAnswerLimit);
}

void VolumeSnapshot::freeze(state::Nanoseconds limit, Done done) {
  if (limit < kShortestLimit || limit > kLongestLimit) return done(fail("the time limit of a freeze is 1 to 600 s"));
  if (state_ != State::Thawed) return done(fail(fmt::format("the guest's file systems are {} now", word(state_))));
  if (auto sent = send(SnapshotOperation::HotBackup); !sent) return done(std::move(sent));
  state_ = State::Asking;
  limit_ = limit;
  done_ = std::move(done);
}

void VolumeSnapshot::thaw(Done done) {
  if (state_ != State::Frozen) {
    return done(fail(fmt::format("the guest's file systems are not frozen, they are {}", word(state_))));
  }
  done_ = std::move(done);
  send_thaw();
}

void VolumeSnapshot::send_thaw() {
  state_ = State::Thawing;
  limit_timer_->disarm();
  if (!send(SnapshotOperation::Thaw)) retry_timer_->arm(clock().now() + kRetry);
}

void VolumeSnapshot::limit_passed() {
  ++let_go_count_;
  send_thaw();
  if (let_go_) let_go_();
}

void VolumeSnapshot::finish(Result<> result) {
  if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
}

bool VolumeSnapshot::on_answer(Status status, std::span<const std::uint8_t>) {
  switch (state_) {
    case State::Asking: {
      auto can = accepted(status, "freeze its file systems");
      if (can) can = send(SnapshotOperation::Freeze);
      state_ = can ? State::Freezing : State::Thawed;
      if (!can) finish(std::move(can));
      break;
    }
    case State::Freezing:
      // A guest that has failed may have frozen some of them.
      if (auto frozen = accepted(status, "freeze its file systems"); !frozen) {
        finish(std::move(frozen));
        send_thaw();
        break;
      }
      state_ = State::Frozen;
      limit_timer_->arm(clock().now() + limit_);
      finish({});
      break;
    case State::Thawing:
      // A guest that says that it cannot thaw has nothing frozen, or nothing that another message would mend.
      state_ = State::Thawed;
      finish(accepted(status, "thaw its file systems"));
      break;
    case State::Thawed:
    case State::Frozen: return false;
  }
  return true;
}

void VolumeSnapshot::on_silence() {
  if (state_ == State::Asking)
    state_ = State::Thawed;
  else
    send_thaw();
  finish(fail("the guest does not answer"));
}

void VolumeSnapshot::on_closed() {
  limit_timer_->disarm();
  retry_timer_->disarm();
  state_ = State::Thawed;
  finish(fail("the guest has closed the volume snapshot service"));
}

void VolumeSnapshot::on_restored() {
  limit_timer_->disarm();
  finish(fail("the machine was saved meanwhile"));
  if (state_ != State::Thawed) retry_timer_->arm(clock().now());
}

void VolumeSnapshot::inspect_more(state::Inspection& node) const {
  node.value("file-systems", word(state_));
  node.value("let-go-by-time-limit", let_go_count_);
}

void VolumeSnapshot::save_more(state::SavedUnit& unit) const {
  // Whatever is under way: after a restore the guest is told to thaw, which harms none that is thawed.
  unit.number("held", state_ == State::Thawed || state_ == State::Asking ? 0 : 1);
}

std::function<void()> VolumeSnapshot::read_more(state::SavedReader& reader) {
  const bool held = reader.flag("held");
  return [this, held] { state_ = held ? State::Thawing : State::Thawed; };
}

}  // namespace bulkhead::vsp::integration
