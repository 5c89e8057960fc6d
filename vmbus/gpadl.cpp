// SPDX-License-Identifier: Apache-2.0
#include "vmbus/gpadl.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace bulkhead::vmbus {

using abi::vmbus::ChannelId;
using abi::vmbus::GpadlId;

GpadlProgress GpadlTable::begin(Key key, std::uint16_t range_data_size, std::uint16_t range_count,
                                std::span<const std::uint8_t> data) {
  if (gpadls_.contains(key) || gpadls_.size() >= kMaximumGpadls || incomplete_ >= kMaximumIncomplete ||
      incomplete_owner(key.second)) {
    return GpadlProgress::Failed;
  }
  if (range_data_size == 0 || range_data_size % 8 != 0 || range_count == 0) return GpadlProgress::Failed;
  Gpadl& gpadl = gpadls_[key];
  gpadl.range_data_size = range_data_size;
  gpadl.range_count = range_count;
  ++incomplete_;
  return add(key, gpadl, data);
}

std::optional<ChannelId> GpadlTable::incomplete_owner(GpadlId gpadl) const {
  if (incomplete_ == 0) return std::nullopt;
  for (const auto& [key, value] : gpadls_) {
    if (key.second == gpadl && value.state == GpadlState::Incomplete) return key.first;
  }
  return std::nullopt;
}

GpadlProgress GpadlTable::extend(Key key, std::span<const std::uint8_t> data) {
  const auto found = gpadls_.find(key);
  if (found == gpadls_.end() || found->second.state != GpadlState::Incomplete) return GpadlProgress::Failed;
  return add(key, found->second, data);
}

GpadlProgress GpadlTable::add(Key key, Gpadl& gpadl, std::span<const std::uint8_t> data) {
  // Some guests pad their last message to its full size: what is beyond the announced size is not looked at.
  const std::size_t missing = gpadl.range_data_size - gpadl.range_data.size();
  const auto taken = data.first(std::min(missing, data.size() / 8 * 8));
  gpadl.range_data.insert(gpadl.range_data.end(), taken.begin(), taken.end());
  if (gpadl.range_data.size() < gpadl.range_data_size) {
    // A body that brings nothing would go on for ever.
    if (!taken.empty()) return GpadlProgress::MoreToCome;
    erase(gpadls_.find(key));
    return GpadlProgress::Failed;
  }
  auto ranges = GuestRanges::parse(gpadl.range_data, gpadl.range_count);
  if (!ranges || pages_ + ranges->page_count() > kMaximumPages) {
    erase(gpadls_.find(key));
    return GpadlProgress::Failed;
  }
  gpadl.ranges = std::move(*ranges);
  gpadl.range_data = {};
  gpadl.state = GpadlState::Lent;
  --incomplete_;
  pages_ += gpadl.ranges.page_count();
  return GpadlProgress::Complete;
}

const Gpadl* GpadlTable::find(Key key) const {
  const auto found = gpadls_.find(key);
  return found == gpadls_.end() ? nullptr : &found->second;
}

const Gpadl* GpadlTable::lent(Key key) const {
  const Gpadl* gpadl = find(key);
  return gpadl != nullptr && gpadl->state == GpadlState::Lent ? gpadl : nullptr;
}

bool GpadlTable::use(Key key) {
  if (lent(key) == nullptr) return false;
  ++gpadls_.find(key)->second.users;
  return true;
}

bool GpadlTable::unuse(Key key) {
  const auto found = gpadls_.find(key);
  if (found == gpadls_.end() || found->second.users == 0) return false;
  if (--found->second.users > 0 || found->second.state != GpadlState::AwaitingReturn) return false;
  erase(found);
  return true;
}

GpadlTable::Teardown GpadlTable::tear_down(Key key) {
  const auto found = gpadls_.find(key);
  if (found == gpadls_.end() || found->second.state != GpadlState::Lent) return Teardown::NotLent;
  if (found->second.users > 0) {
    found->second.state = GpadlState::AwaitingReturn;
    return Teardown::Awaited;
  }
  erase(found);
  return Teardown::Gone;
}

void GpadlTable::drop_channel(ChannelId channel) {
  for (auto at = gpadls_.begin(); at != gpadls_.end();) at = at->first.first == channel ? erase(at) : std::next(at);
}

std::map<GpadlTable::Key, Gpadl>::iterator GpadlTable::erase(std::map<Key, Gpadl>::iterator at) {
  if (at->second.state == GpadlState::Incomplete) --incomplete_;
  pages_ -= at->second.ranges.page_count();
  return gpadls_.erase(at);
}

namespace {

void append(std::vector<std::uint8_t>& bytes, const void* value, std::size_t size) {
  const auto* first = static_cast<const std::uint8_t*>(value);
  bytes.insert(bytes.end(), first, first + size);
}

/// In the form in which the guest gave them.
std::vector<std::uint8_t> to_range_data(const GuestRanges& list) {
  std::vector<std::uint8_t> bytes;
  for (const auto& range : list.ranges()) {
    const abi::vmbus::GpaRange head{.byte_count = range.byte_count, .byte_offset = range.byte_offset};
    append(bytes, &head, sizeof head);
    append(bytes, range.pages.data(), range.pages.size() * sizeof(std::uint64_t));
  }
  return bytes;
}

}  // namespace

state::SavedList GpadlTable::save() const {
  state::SavedList list;
  for (const auto& [key, gpadl] : gpadls_) {
    const bool incomplete = gpadl.state == GpadlState::Incomplete;
    state::SavedUnit unit(1);
    unit.number("channel", std::to_underlying(key.first));
    unit.number("gpadl", std::to_underlying(key.second));
    unit.number("state", std::to_underlying(gpadl.state));
    unit.number("range-data-size", gpadl.range_data_size);
    unit.number("range-count", gpadl.range_count);
    unit.number("users", gpadl.users);
    unit.bytes("range-data", incomplete ? gpadl.range_data : to_range_data(gpadl.ranges));
    list.push_back(std::move(unit));
  }
  return list;
}

Result<> GpadlTable::restore(const state::SavedList& saved) {
  if (saved.size() > kMaximumGpadls) return fail("saved state of vmbus: too many GPADLs");
  GpadlTable table;
  for (const auto& unit : saved) {
    state::SavedReader reader(unit, "vmbus GPADL", 1);
    const Key key{ChannelId{static_cast<std::uint32_t>(reader.number("channel", abi::vmbus::kMaximumChannelId))},
                  GpadlId{static_cast<std::uint32_t>(reader.number("gpadl", UINT32_MAX))}};
    Gpadl gpadl;
    gpadl.state = static_cast<GpadlState>(reader.number("state", std::to_underlying(GpadlState::AwaitingReturn)));
    gpadl.range_data_size = static_cast<std::uint16_t>(reader.number("range-data-size", UINT16_MAX));
    gpadl.range_count = static_cast<std::uint16_t>(reader.number("range-count", UINT16_MAX));
    gpadl.users = static_cast<std::uint32_t>(reader.number("users", UINT16_MAX));
    auto data = reader.bytes_up_to("range-data", gpadl.range_data_size);
    if (auto read = reader.finish(); !read) return read;
    if (gpadl.state == GpadlState::Incomplete) {
      if (++table.incomplete_ > kMaximumIncomplete) return fail("saved state of vmbus: too many incomplete GPADLs");
      gpadl.range_data = std::move(data);
    } else {
      auto ranges = GuestRanges::parse(data, gpadl.range_count);
      if (!ranges) return fail("saved state of vmbus: " + ranges.error().message());
      gpadl.ranges = std::move(*ranges);
      table.pages_ += gpadl.ranges.page_count();
    }
    if (table.pages_ > kMaximumPages || !table.gpadls_.emplace(key, std::move(gpadl)).second) {
      return fail("saved state of vmbus: GPADLs that cannot be");
    }
  }
  *this = std::move(table);
  return {};
}

void GpadlTable::inspect(state::Inspection& node) const {
  node.value("pages", std::uint64_t{pages_});
  for (const auto& [key, gpadl] : gpadls_) {
    auto& child =
        node.child(fmt::format("{:#x} of channel {}", std::to_underlying(key.second), std::to_underlying(key.first)));
    child.value("state", gpadl.state == GpadlState::Incomplete ? "incomplete"
                         : gpadl.state == GpadlState::Lent     ? "lent"
                                                               : "awaiting return");
    child.value("bytes", gpadl.ranges.byte_count());
    child.value("users", std::uint64_t{gpadl.users});
  }
}

}  // namespace bulkhead::vmbus
