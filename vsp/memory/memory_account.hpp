// SPDX-License-Identifier: Apache-2.0
//
// Who has which page of a machine's memory.
//
//   ├──────── start-up memory ────────┤├─────── room for more ───────┤
//   │ guest's │ ballooned │ guest's    │ added │ never given so far  │
//               host's                           host's
//
// What the guest says it has given up is checked here: only pages that it has, once, count. Pages that are the host's
// are taken out of the machine's memory for good: should the guest touch them all the same, it finds zeros, and they are
// taken again at the next look.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "state/saved_state.hpp"
#include "vsp/memory/memory_policy.hpp"
#include "vsp/memory/page_set.hpp"

namespace bulkhead::vsp::memory {

/// The memory itself, and the host's.
class MemoryPort {
 public:
  virtual ~MemoryPort() = default;
  /// The pages' memory is the host's again; the guest finds zeros in them.
  virtual void release(const PageRun& run) = 0;
  /// Pages of the run that take memory of the host.
  virtual Pages resident(const PageRun& run) const = 0;
  virtual HostMemory host() const = 0;
};

class MemoryAccount {
 public:
  /// The runs do not overlap. The port lives longer.
  MemoryAccount(std::vector<PageRun> startup, std::vector<PageRun> more, MemoryPort& port);

  Pages startup() const { return startup_pages_; }
  Pages added() const { return added_; }
  Pages ballooned() const { return ballooned_.size(); }
  /// What the guest has.
  Pages assigned() const { return startup_pages_ + added_ - ballooned_.size(); }
  /// What can still be added.
  Pages addable() const { return more_pages_ - added_; }

  /// The guest gives the run up. False, and nothing changed: it does not have all of it.
  bool take(const PageRun& run);
  /// A run of ballooned pages from page `from` on, at most `longest`.
  std::optional<PageRun> next_ballooned(std::uint64_t from, Pages longest) const {
    return ballooned_.next_run(from, longest);
  }
  /// The guest gets the run back, which is ballooned.
  void give_back(const PageRun& run) { ballooned_.remove(run); }
  /// Of what can be added, the next pages in one run, at most `wanted`.
  std::optional<PageRun> next_to_add(Pages wanted) const;
  /// The guest has added so many of them.
  void add(Pages count) { added_ += count; }

  /// Takes the host's pages that the guest has touched; how many they were.
  Pages sweep();
  /// The guest has all that is its own again: it has forgotten what it had given up.
  void forget_balloon() { ballooned_.clear(); }
  /// As at power-on; what was added is released.
  void reset();

  void save(state::SavedUnit& unit) const;
  /// What is to be done once all else has been read too.
  std::function<void()> read(state::SavedReader& reader);

 private:
  bool is_given(const PageRun& run) const;
  Pages sweep(const PageRun& run);
  /// Calls the function with each run of what can still be added.
  template <typename Function>
  void each_addable(Function function) const;

  std::vector<PageRun> startup_;
  std::vector<PageRun> more_;
  MemoryPort& port_;
  Pages startup_pages_;
  Pages more_pages_;
  Pages added_ = 0;  // of the room for more, from its beginning on
  PageSet ballooned_;
};

}  // namespace bulkhead::vsp::memory
