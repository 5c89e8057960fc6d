// SPDX-License-Identifier: Apache-2.0
//
// The GPADLs of a connection: lists of guest memory that the guest lends to a channel.
//
//   GPADL_HEADER ──▶ Incomplete ── bodies ──▶ Lent ── GPADL_TEARDOWN ──▶ AwaitingReturn ──▶ gone (GPADL_TORNDOWN)
//                    (guest's)                (host may use it)          (host's: a ring or a provider still uses it)
//
// What a guest can make the host remember is bounded: the number of lists and of the pages in all of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "abi/vmbus.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"
#include "vmbus/guest_ranges.hpp"

namespace bulkhead::vmbus {

enum class GpadlState : std::uint8_t { Incomplete, Lent, AwaitingReturn };

struct Gpadl {
  GpadlState state = GpadlState::Incomplete;
  // While incomplete: what has come of the range data, and how much there will be.
  std::vector<std::uint8_t> range_data;
  std::uint16_t range_data_size = 0;
  std::uint16_t range_count = 0;
  // From then on:
  GuestRanges ranges;
  std::uint32_t users = 0;  // rings and providers

  bool operator==(const Gpadl&) const = default;
};

/// What became of the list after a message.
enum class GpadlProgress : std::uint8_t { MoreToCome, Complete, Failed };

class GpadlTable {
 public:
  static constexpr std::size_t kMaximumGpadls = 4096;
  static constexpr std::size_t kMaximumIncomplete = 64;
  static constexpr std::size_t kMaximumPages = std::size_t{1} << 18;

  using Key = std::pair<abi::vmbus::ChannelId, abi::vmbus::GpadlId>;

  /// `data` is what follows the message's fixed part. On failure there is no such list, unless the failure was that
  /// there is one already.
  GpadlProgress begin(Key key, std::uint16_t range_data_size, std::uint16_t range_count,
                      std::span<const std::uint8_t> data);
  /// The channel that an incomplete list of this id belongs to: bodies do not say it.
  std::optional<abi::vmbus::ChannelId> incomplete_owner(abi::vmbus::GpadlId gpadl) const;
  GpadlProgress extend(Key key, std::span<const std::uint8_t> data);

  /// The list if it is lent, or null.
  const Gpadl* lent(Key key) const;
  const Gpadl* find(Key key) const;
  /// A ring or a provider uses a lent list. False: it is not lent.
  bool use(Key key);
  /// One user less. True: the list was awaited back, has no user any more, and is gone now.
  bool unuse(Key key);

  enum class Teardown : std::uint8_t { Gone, Awaited, NotLent };
  Teardown tear_down(Key key);

  void drop_channel(abi::vmbus::ChannelId channel);
  void clear() { *this = GpadlTable(); }
  bool is_empty() const { return gpadls_.empty(); }
  std::size_t size() const { return gpadls_.size(); }

  state::SavedList save() const;
  Result<> restore(const state::SavedList& saved);
  void inspect(state::Inspection& node) const;

 private:
  GpadlProgress add(Key key, Gpadl& gpadl, std::span<const std::uint8_t> data);
  std::map<Key, Gpadl>::iterator erase(std::map<Key, Gpadl>::iterator at);

  std::map<Key, Gpadl> gpadls_;
  std::size_t pages_ = 0;
  std::size_t incomplete_ = 0;
};

}  // namespace bulkhead::vmbus
