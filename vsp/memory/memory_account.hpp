// SPDX-License-Identifier: Apache-2.0
//
// Who has which page of a machine's memory.
//
//   ├──────── start-up memory ────────┤├─────── room for more ───────┤
//   │ guest's │ ballooned │ guest's    │ added │ never given so far  │
//               host's                           host's
//
// What the guest says it has given up is checked here: only pages that it has, once, count. Pages that are the host's
// are taken out of the machine's memory for good: should the guest touch them all the same, it finds nothing of its own there,
// and they are taken again at the next look. Pages are the guest's from the moment in which it is offered them, for it uses
// them before it says so.
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
  /// The pages' memory is the host's again.
  virtual void release(const PageRun& run) = 0;
  /// The pages, which were released or never given, are the guest's. False: the host has no memory for them.
  virtual bool provide(const PageRun& run) = 0;
  /// Of released pages, those that take memory of the host because the guest has used them.
  virtual Pages used_again(const PageRun& run) const = 0;
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
  /// The guest gets the run back, which is ballooned. False: the host has no memory for it.
  bool give_back(const PageRun& run);
  /// Of what can be added, the next pages in one run, at most `wanted`.
  std::optional<PageRun> next_to_add(Pages wanted) const;
  /// These are the guest's now; they are what next_to_add gave. False: the host has no memory for them.
  bool add(const PageRun& run);
  /// The guest did not want the last `count` of what was added last.
  void take_back_added(Pages count);

  /// Takes the host's pages that the guest has touched; how many they were.
  Pages sweep();
  /// The guest has all that is its own again, as far as the host has memory for it: it has forgotten what it had given up.
  void forget_balloon();
  /// As at power-on; what was added is released.
  void reset();

  void save(state::SavedUnit& unit) const;
  /// What is to be done once all else has been read too.
  std::function<void()> read(state::SavedReader& reader);

 private:
  bool is_given(const PageRun& run) const;
  Pages sweep(const PageRun& run);
  /// Makes memory as it is at power-on into what the books say.
  void apply();
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
