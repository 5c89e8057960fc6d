// SPDX-License-Identifier: Apache-2.0
#include "vsp/portioned_reader.hpp"

#include <utility>

namespace bulkhead::vsp {

using namespace std::chrono_literals;

namespace {

constexpr unsigned kPortion = 64;
constexpr state::Nanoseconds kBetweenPortions = 1ms;

}  // namespace

PortionedReader::PortionedReader(state::Clock& clock, Take take)
    : clock_(clock), take_(std::move(take)), timer_(clock.make_timer([this] {
        if (channel_ != nullptr) read(*channel_);
      })) {}

void PortionedReader::read(vmbus::Channel& channel) {
  channel_ = &channel;
  for (unsigned count = 0; count < kPortion; ++count) {
    auto packet = channel.receive();
    if (!packet) {
      take_(std::unexpected(packet.error()));
      if (channel_ == nullptr || channel.is_broken()) return;
      continue;
    }
    if (!*packet) return;
    take_(std::move(**packet));
    if (channel_ == nullptr) return;
  }
  timer_->arm(clock_.now() + kBetweenPortions);
}

void PortionedReader::stop() {
  channel_ = nullptr;
  timer_->disarm();
}

void PortionedReader::resume(vmbus::Channel& channel) {
  channel_ = &channel;
  timer_->arm(clock_.now());
}

}  // namespace bulkhead::vsp
