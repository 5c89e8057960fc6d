// SPDX-License-Identifier: Apache-2.0
#include "vmbus/channel.hpp"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "vmbus/bus.hpp"

namespace bulkhead::vmbus {

using namespace abi::vmbus;

void Channel::open(Rings rings, abi::VpIndex target_vp) {
  rings_ = std::move(rings);
  target_vp_ = target_vp;
  owed_completions_ = 0;
  polling_ = false;
  rings_->incoming.want_signals(true);
}

void Channel::close_rings() {
  rings_.reset();
  to_be_signaled_ = false;
  owed_completions_ = 0;
  target_vp_ = kNoTargetVp;
}

void Channel::signal() {
  if (target_vp_ != kNoTargetVp) bus_.signal_guest(id_, target_vp_);
}

std::uint32_t Channel::completion_room() const {
  return static_cast<std::uint32_t>(sizeof(PacketDescriptor) + ((provider_.completion_size() + 7) & ~std::size_t{7}) +
                                    kTrailerSize);
}

Result<std::optional<Packet>> Channel::receive() {
  if (!rings_) return fail(fmt::format("VMBus channel {} is not open", std::to_underlying(id_)));
  ReadStatus status = rings_->incoming.peek(scratch_);
  if (status == ReadStatus::Empty && polling_) {
    polling_ = false;
    rings_->incoming.want_signals(true);
    status = rings_->incoming.peek(scratch_);
  }
  if (status == ReadStatus::Empty) return std::nullopt;
  if (status == ReadStatus::Broken) {
    return fail(fmt::format("the guest has broken the ring of VMBus channel {}", std::to_underlying(id_)));
  }
  if (!polling_) {
    polling_ = true;
    rings_->incoming.want_signals(false);
  }
  PacketDescriptor descriptor;
  std::memcpy(&descriptor, scratch_.data(), sizeof descriptor);
  const bool owed = (descriptor.flags & kCompletionRequested) != 0 && descriptor.type != PacketType::Completion;
  if (owed && !rings_->outgoing.reserve(completion_room())) {
    // The packet stays where it is; the guest's signal about room finds it there.
    return std::nullopt;
  }
  if (rings_->incoming.consume()) signal();
  auto packet = Packet::parse(std::move(scratch_));
  scratch_.clear();
  if (!packet) {
    if (owed) rings_->outgoing.release(completion_room());
    return std::unexpected(packet.error().within(fmt::format("VMBus channel {}", std::to_underlying(id_))));
  }
  if (owed) ++owed_completions_;
  return std::optional<Packet>(std::move(*packet));
}

SendStatus Channel::to_guest(WriteStatus status, Notice notice) {
  switch (status) {
    case WriteStatus::WrittenAndToSignal:
      to_be_signaled_ = true;
      if (notice == Notice::Now) signal_gathered();
      return SendStatus::Sent;
    case WriteStatus::Written: return SendStatus::Sent;
    case WriteStatus::Full: return SendStatus::Full;
    case WriteStatus::TooLarge:
    case WriteStatus::Broken: break;
  }
  return SendStatus::Impossible;
}

SendStatus Channel::send(std::span<const std::uint8_t> payload, bool completion_requested, std::uint64_t transaction) {
  if (!rings_) return SendStatus::Impossible;
  return to_guest(rings_->outgoing.write({.type = PacketType::InBand,
                                          .completion_requested = completion_requested,
                                          .transaction = transaction,
                                          .payload = payload}));
}

SendStatus Channel::send_transfer_pages(std::uint16_t set, std::span<const TransferPageRange> ranges,
                                        std::span<const std::uint8_t> payload, std::uint64_t transaction) {
  if (!rings_) return SendStatus::Impossible;
  const TransferPageHeader head{.set = set, .reserved = 0, .range_count = static_cast<std::uint32_t>(ranges.size())};
  std::vector<std::uint8_t> header(sizeof head + ranges.size_bytes());
  std::memcpy(header.data(), &head, sizeof head);
  std::memcpy(header.data() + sizeof head, ranges.data(), ranges.size_bytes());
  return to_guest(rings_->outgoing.write({.type = PacketType::TransferPages,
                                          .completion_requested = true,
                                          .transaction = transaction,
                                          .header = header,
                                          .payload = payload}));
}

Result<> Channel::send_completion(std::uint64_t transaction, std::span<const std::uint8_t> payload, Notice notice) {
  if (!rings_) return fail(fmt::format("VMBus channel {} is not open", std::to_underlying(id_)));
  if (owed_completions_ == 0) return fail(fmt::format("VMBus channel {} owes nothing", std::to_underlying(id_)));
  if (payload.size() > provider_.completion_size()) {
    return fail(fmt::format("a completion of {} bytes on VMBus channel {}", payload.size(), std::to_underlying(id_)));
  }
  --owed_completions_;
  const auto status = rings_->outgoing.write_reserved(
      {.type = PacketType::Completion, .transaction = transaction, .payload = payload}, completion_room());
  if (to_guest(status, notice) == SendStatus::Sent) return {};
  return fail(fmt::format("the guest has broken the ring of VMBus channel {}", std::to_underlying(id_)));
}

void Channel::signal_gathered() {
  if (std::exchange(to_be_signaled_, false)) signal();
}

Result<> Channel::offer_sub_channels(std::uint16_t count) { return bus_.offer_sub_channels(*this, count); }

const GuestRanges* Channel::use_gpadl(GpadlId gpadl) { return bus_.use_gpadl(id_, gpadl); }

void Channel::return_gpadl(GpadlId gpadl) { bus_.return_gpadl(id_, gpadl); }

void Channel::close_finished() { bus_.close_finished(id_); }

state::SavedUnit Channel::save() const {
  state::SavedUnit unit(1);
  unit.number("channel", std::to_underlying(id_));
  unit.number("read-index", rings_->incoming.read_index());
  unit.number("write-index", rings_->outgoing.write_index());
  unit.number("owed-completions", owed_completions_);
  unit.number("polling", polling_);
  return unit;
}

Result<> Channel::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, "vmbus rings", 1);
  reader.number("channel", kMaximumChannelId);
  const auto read_index = static_cast<std::uint32_t>(reader.number("read-index", UINT32_MAX));
  const auto write_index = static_cast<std::uint32_t>(reader.number("write-index", UINT32_MAX));
  const auto owed =
      static_cast<std::uint32_t>(reader.number("owed-completions", rings_->outgoing.size() / completion_room()));
  const bool polling = reader.flag("polling");
  if (auto read = reader.finish(); !read) return read;
  if (!rings_->incoming.set_read_index(read_index) || !rings_->outgoing.set_write_index(write_index)) {
    return fail("saved state of vmbus: an index that is outside of its ring");
  }
  owed_completions_ = owed;
  rings_->outgoing.set_reserved(owed * completion_room());
  polling_ = polling;
  return {};
}

void Channel::inspect(state::Inspection& node) const {
  node.value("open", is_open());
  if (!rings_) return;
  node.value("broken", is_broken());
  node.value("owed-completions", std::uint64_t{owed_completions_});
  node.value("read-index", std::uint64_t{rings_->incoming.read_index()});
  node.value("write-index", std::uint64_t{rings_->outgoing.write_index()});
}

}  // namespace bulkhead::vmbus
