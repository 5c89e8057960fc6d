// SPDX-License-Identifier: Apache-2.0
#include "vsp/memory/memory_account.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace bulkhead::vsp::memory {
namespace {

Pages sum(std::span<const PageRun> runs) {
  Pages pages = 0;
  for (const auto& run : runs) pages += run.count;
  return pages;
}

std::uint64_t end_of(std::span<const PageRun> runs) {
  std::uint64_t end = 0;
  for (const auto& run : runs) end = std::max(end, run.first + run.count);
  return end;
}

bool is_within(const PageRun& part, const PageRun& whole) {
  return part.first >= whole.first && part.first - whole.first <= whole.count &&
         part.count <= whole.count - (part.first - whole.first);
}

}  // namespace

MemoryAccount::MemoryAccount(std::vector<PageRun> startup, std::vector<PageRun> more, MemoryPort& port)
    : startup_(std::move(startup)),
      more_(std::move(more)),
      port_(port),
      startup_pages_(sum(startup_)),
      more_pages_(sum(more_)),
      ballooned_(std::max(end_of(startup_), end_of(more_))) {}

bool MemoryAccount::is_given(const PageRun& run) const {
  if (std::ranges::any_of(startup_, [&](const PageRun& whole) { return is_within(run, whole); })) return true;
  Pages added = added_;
  for (const auto& whole : more_) {
    if (is_within(run, {.first = whole.first, .count = std::min(added, whole.count)})) return true;
    added -= std::min(added, whole.count);
  }
  return false;
}

bool MemoryAccount::take(const PageRun& run) {
  if (run.count == 0 || !is_given(run) || ballooned_.has_any(run)) return false;
  ballooned_.add(run);
  port_.release(run);
  return true;
}

template <typename Function>
void MemoryAccount::each_addable(Function function) const {
  Pages added = added_;
  for (const auto& whole : more_) {
    const Pages given = std::min(added, whole.count);
    added -= given;
    if (given < whole.count) function(PageRun{.first = whole.first + given, .count = whole.count - given});
  }
}

std::optional<PageRun> MemoryAccount::next_to_add(Pages wanted) const {
  std::optional<PageRun> next;
  each_addable([&](const PageRun& run) {
    if (!next) next = PageRun{.first = run.first, .count = std::min(run.count, wanted)};
  });
  return next && next->count > 0 ? next : std::nullopt;
}

bool MemoryAccount::give_back(const PageRun& run) {
  if (!port_.provide(run)) return false;
  ballooned_.remove(run);
  return true;
}

bool MemoryAccount::add(const PageRun& run) {
  if (!port_.provide(run)) return false;
  added_ += run.count;
  return true;
}

void MemoryAccount::take_back_added(Pages count) {
  added_ -= count;
  // What was added last is one run, and what can be added begins with it.
  if (const auto run = next_to_add(count)) port_.release(*run);
}

void MemoryAccount::forget_balloon() {
  for (auto run = ballooned_.next_run(0, UINT64_MAX); run; run = ballooned_.next_run(run->first, UINT64_MAX)) {
    if (!give_back(*run)) return;
  }
}

Pages MemoryAccount::sweep(const PageRun& run) {
  const Pages used = port_.used_again(run);
  if (used > 0) port_.release(run);
  return used;
}

Pages MemoryAccount::sweep() {
  Pages taken = 0;
  for (auto run = ballooned_.next_run(0, UINT64_MAX); run;
       run = ballooned_.next_run(run->first + run->count, UINT64_MAX)) {
    taken += sweep(*run);
  }
  each_addable([&](const PageRun& run) { taken += sweep(run); });
  return taken;
}

void MemoryAccount::reset() {
  ballooned_.clear();
  added_ = 0;
  each_addable([&](const PageRun& run) { sweep(run); });
}

void MemoryAccount::apply() {
  Pages added = added_;
  for (const auto& whole : more_) {
    const PageRun run{.first = whole.first, .count = std::min(added, whole.count)};
    added -= run.count;
    // If the host has none, the guest finds that out: it has been given these before.
    if (run.count > 0) static_cast<void>(port_.provide(run));
  }
  for (auto run = ballooned_.next_run(0, UINT64_MAX); run;
       run = ballooned_.next_run(run->first + run->count, UINT64_MAX)) {
    port_.release(*run);
  }
}

void MemoryAccount::save(state::SavedUnit& unit) const {
  state::SavedBytes bytes((ballooned_.bits().size() + 7) / 8);
  for (auto run = ballooned_.next_run(0, UINT64_MAX); run;
       run = ballooned_.next_run(run->first + run->count, UINT64_MAX)) {
    for (std::uint64_t page = run->first; page < run->first + run->count; ++page) {
      bytes[page / 8] = static_cast<std::uint8_t>(bytes[page / 8] | 1u << page % 8);
    }
  }
  unit.number("added-pages", added_);
  unit.bytes("ballooned-pages", bytes);
}

std::function<void()> MemoryAccount::read(state::SavedReader& reader) {
  const Pages added = reader.number("added-pages", more_pages_);
  const auto bytes = reader.bytes("ballooned-pages", (ballooned_.bits().size() + 7) / 8);
  return [this, added, bytes] {
    added_ = added;
    ballooned_.clear();
    for (std::uint64_t page = 0; page < ballooned_.bits().size(); ++page) {
      const PageRun run{.first = page, .count = 1};
      if ((bytes[page / 8] >> page % 8 & 1) != 0 && is_given(run)) ballooned_.add(run);
    }
    apply();
  };
}

}  // namespace bulkhead::vsp::memory
