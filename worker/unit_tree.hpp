// SPDX-License-Identifier: Apache-2.0
//
// The state units of one machine, in the order of their dependencies: a unit comes after those it uses.
//
//   clock ── interrupt controllers ── devices        start, reset, restore ──▶
//                                                    ◀── stop
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "state/state_unit.hpp"

namespace bulkhead::worker {

/// Called with the machine's lock held. The units must live as long as they are used through it.
class UnitTree {
 public:
  /// `uses` names the units that must run whenever this one does. Errors: a name twice; a name in `uses` that was not
  /// added before, which also makes cycles impossible.
  Result<> add(state::StateUnit& unit, std::initializer_list<std::string_view> uses = {});

  bool running() const { return running_; }
  void start();
  void stop();
  /// Only while stopped, as are the following two.
  void reset();

  /// One field for each unit, a list of one.
  state::SavedUnit save() const;
  /// All units, or after an error all units in their power-on state.
  Result<> restore(const state::SavedUnit& saved);

  /// One child for each unit.
  void inspect(state::Inspection& node) const;

 private:
  state::StateUnit* find(std::string_view name) const;
  Result<> restore_each(const state::SavedUnit& saved);

  std::vector<state::StateUnit*> units_;
  bool running_ = false;
};

}  // namespace bulkhead::worker
