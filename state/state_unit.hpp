// SPDX-License-Identifier: Apache-2.0
//
// A state unit is any part of a virtual machine that has state of its own: a device, a virtual processor, the clock.
// Checkpoints, saved state and live migration are one mechanism with different carriers, and this is its interface.
//
//            start            stop
//   stopped ───────▶ running ──────▶ stopped          save, restore and reset only while stopped
//
// A unit is made in its power-on state, stopped. While it is stopped it changes nothing by itself: no timer fires and
// no line changes. `inspect` may be called at any time and shows the state as a tree for people and tests.
#pragma once

#include <string_view>

#include "error/error.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"

namespace bulkhead::state {

class StateUnit {
 public:
  virtual ~StateUnit() = default;

  /// The unit's name in saved state and in inspection, unique in its machine and the same for its life, e.g. "pic".
  virtual std::string_view name() const = 0;

  virtual void start() = 0;
  virtual void stop() = 0;
  /// Back to the power-on state.
  virtual void reset() = 0;

  /// All that a unit of the same kind needs to go on as if nothing had happened.
  virtual SavedUnit save() const = 0;
  /// Takes what `save` gave. An unknown version or field, or a value no guest could have reached, is an error, after
  /// which the unit is as it was before.
  virtual Result<> restore(const SavedUnit& saved) = 0;

  virtual void inspect(Inspection& node) const = 0;
};

}  // namespace bulkhead::state
