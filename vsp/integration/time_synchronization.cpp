// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/time_synchronization.hpp"

#include <array>

namespace bulkhead::vsp::integration {

using namespace abi::integration;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kInterval = 5s;
constexpr state::Nanoseconds kLimit = 4s;  // before the next message, which is then an order again
constexpr state::Nanoseconds kLargestDrift = 500ms;
constexpr Version kFirstWithReference{4, 0};
constexpr std::array<Version, 3> kVersions = {kFirstWithReference, Version{3, 0}, Version{1, 0}};

constexpr Profile profile_with(std::span<const Version> versions) {
  return {.name = "time-synchronization",
          .title = "time synchronization",
          .interface_type = kTimeSynchronizationInterface,
          .instance = kTimeSynchronizationInstance,
          .type = MessageType::TimeSynchronization,
          .message_versions = versions};
}
constexpr Profile kProfile = profile_with(kVersions);
constexpr Profile kProfileWithoutReference = profile_with(std::span(kVersions).subspan(1));

}  // namespace

TimeSynchronization::TimeSynchronization(state::Clock& clock, const state::WallClock& wall_clock,
                                         const ReferenceTime* reference)
    : Service(reference != nullptr ? kProfile : kProfileWithoutReference, clock),
      wall_clock_(wall_clock),
      reference_(reference),
      timer_(clock.make_timer([this] { tell(); })) {}

void TimeSynchronization::tell() {
  timer_->arm(clock().now() + kInterval);
  const state::Nanoseconds time_of_day = wall_clock_.now();
  const state::Nanoseconds ahead = time_of_day - clock().now();
  const bool order = !ahead_ || std::chrono::abs(ahead - *ahead_) > kLargestDrift;
  const std::uint64_t host_time = kUnixEpoch + static_cast<std::uint64_t>(time_of_day.count() / 100);
  const std::uint8_t flags = order ? TimeFlags::kSynchronize : TimeFlags::kSample;
  Result<> told;
  if (versions().message >= kFirstWithReference) {
    const auto reference = reference_->reference_time();
    if (!reference) return;
    const TimeReference body{.host_time = host_time,
                             .reference_time = *reference,
                             .flags = flags,
                             .leap_indicator = 0,
                             .stratum = 0,
                             .reserved = {}};
    told = request(bytes_of(body), kLimit);
  } else {
    const TimeBefore4_0 body{
        .host_time = host_time, .guest_time = 0, .round_trip_time = 0, .flags = flags, .reserved = {}};
    told = request(bytes_of(body), kLimit);
  }
  // A guest that takes no messages just now is told later.
  if (!told) return;
  if (order) ++orders_;
  ahead_ = ahead;
}

void TimeSynchronization::on_ready() {
  ahead_.reset();
  tell();
}

void TimeSynchronization::on_closed() {
  timer_->disarm();
  ahead_.reset();
}

bool TimeSynchronization::on_answer(Status, std::span<const std::uint8_t>) { return true; }

void TimeSynchronization::on_silence() {
  // Whether the guest has got it is not known: an order is given again.
  ahead_.reset();
}

void TimeSynchronization::on_restored() {
  ahead_.reset();
  if (phase() == Phase::Ready) timer_->arm(clock().now());
}

void TimeSynchronization::inspect_more(state::Inspection& node) const {
  node.value("orders-to-set-the-clock", orders_);
}

}  // namespace bulkhead::vsp::integration
