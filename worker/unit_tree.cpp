// SPDX-License-Identifier: Apache-2.0
#include "worker/unit_tree.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cassert>
#include <ranges>

namespace bulkhead::worker {

Result<> UnitTree::add(state::StateUnit& unit, std::initializer_list<std::string_view> uses) {
  if (find(unit.name())) return fail(fmt::format("two state units are called '{}'", unit.name()));
  for (const auto used : uses) {
    if (!find(used)) return fail(fmt::format("the state unit '{}' uses '{}', which is not there", unit.name(), used));
  }
  units_.push_back(&unit);
  return {};
}

state::StateUnit* UnitTree::find(std::string_view name) const {
  const auto found = std::ranges::find(units_, name, &state::StateUnit::name);
  return found == units_.end() ? nullptr : *found;
}

void UnitTree::start() {
  if (running_) return;
  for (auto* unit : units_) unit->start();
  running_ = true;
}

void UnitTree::stop() {
  if (!running_) return;
  for (auto* unit : std::views::reverse(units_)) unit->stop();
  running_ = false;
}

void UnitTree::reset() {
  assert(!running_);
  for (auto* unit : units_) unit->reset();
}

state::SavedUnit UnitTree::save() const {
  assert(!running_);
  state::SavedUnit saved(1);
  for (const auto* unit : units_) saved.list(unit->name(), {unit->save()});
  return saved;
}

Result<> UnitTree::restore(const state::SavedUnit& saved) {
  assert(!running_);
  auto restored = restore_each(saved);
  if (!restored) reset();
  return restored;
}

Result<> UnitTree::restore_each(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, "the machine", 1);
  std::vector<state::SavedList> parts;
  parts.reserve(units_.size());
  for (const auto* unit : units_) parts.push_back(reader.list(unit->name(), 1));
  if (auto complete = reader.finish(); !complete) return complete;
  for (std::size_t i = 0; i < units_.size(); ++i) {
    if (auto restored = units_[i]->restore(parts[i].front()); !restored) return restored;
  }
  return {};
}

void UnitTree::inspect(state::Inspection& node) const {
  for (const auto* unit : units_) unit->inspect(node.child(unit->name()));
}

}  // namespace bulkhead::worker
