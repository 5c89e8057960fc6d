// SPDX-License-Identifier: Apache-2.0
#include "vmbus/message_queue.hpp"

#include <algorithm>

namespace bulkhead::vmbus {

void MessageQueue::push(abi::VpIndex vp, std::span<const std::uint8_t> message) {
  if (waiting_.size() >= kMaximum || message.size() > abi::kMessagePayloadSize) {
    ++dropped_;
    return;
  }
  Waiting& waiting = waiting_.emplace_back(Waiting{.vp = vp, .message = {}});
  waiting.message.type = abi::SynicMessageType::VmbusChannel;
  waiting.message.payload_size = static_cast<std::uint8_t>(message.size());
  std::ranges::copy(message, waiting.message.payload);
  deliver();
}

void MessageQueue::deliver() {
  while (!waiting_.empty()) {
    const Waiting& first = waiting_.front();
    const PostStatus status = port_.post_message(first.vp, abi::vmbus::kVmbusSint, first.message);
    if (status == PostStatus::Busy) return;
    if (status == PostStatus::Refused) ++dropped_;
    waiting_.pop_front();
  }
}

state::SavedList MessageQueue::save() const {
  state::SavedList list;
  for (const auto& waiting : waiting_) {
    state::SavedUnit unit(1);
    unit.number("vp", std::to_underlying(waiting.vp));
    unit.bytes("message", std::span(waiting.message.payload).first(waiting.message.payload_size));
    list.push_back(std::move(unit));
  }
  return list;
}

Result<> MessageQueue::restore(const state::SavedList& saved) {
  std::deque<Waiting> restored;
  for (const auto& unit : saved) {
    state::SavedReader reader(unit, "vmbus message", 1);
    Waiting waiting{.vp = abi::VpIndex{static_cast<std::uint32_t>(reader.number("vp", UINT32_MAX))}, .message = {}};
    const auto bytes = reader.bytes_up_to("message", abi::kMessagePayloadSize);
    if (auto read = reader.finish(); !read) return read;
    waiting.message.type = abi::SynicMessageType::VmbusChannel;
    waiting.message.payload_size = static_cast<std::uint8_t>(bytes.size());
    std::ranges::copy(bytes, waiting.message.payload);
    restored.push_back(waiting);
  }
  waiting_ = std::move(restored);
  return {};
}

}  // namespace bulkhead::vmbus
