// SPDX-License-Identifier: Apache-2.0
#include "vsp/memory/page_set.hpp"

#include <algorithm>
#include <utility>

namespace bulkhead::vsp::memory {
namespace {

template <typename Bits>
auto part(Bits& bits, const PageRun& run) {
  const auto begin = bits.begin() + static_cast<std::ptrdiff_t>(run.first);
  return std::pair(begin, begin + static_cast<std::ptrdiff_t>(run.count));
}

}  // namespace

bool PageSet::has_any(const PageRun& run) const {
  const auto [begin, end] = part(bits_, run);
  return std::find(begin, end, true) != end;
}

void PageSet::add(const PageRun& run) {
  const auto [begin, end] = part(bits_, run);
  size_ += static_cast<std::uint64_t>(std::count(begin, end, false));
  std::fill(begin, end, true);
}

void PageSet::remove(const PageRun& run) {
  const auto [begin, end] = part(bits_, run);
  size_ -= static_cast<std::uint64_t>(std::count(begin, end, true));
  std::fill(begin, end, false);
}

void PageSet::clear() {
  bits_.assign(bits_.size(), false);
  size_ = 0;
}

std::optional<PageRun> PageSet::next_run(std::uint64_t from, std::uint64_t longest) const {
  if (from >= bits_.size()) return std::nullopt;
  const auto begin = std::find(bits_.begin() + static_cast<std::ptrdiff_t>(from), bits_.end(), true);
  if (begin == bits_.end()) return std::nullopt;
  const auto room = std::min<std::uint64_t>(longest, static_cast<std::uint64_t>(bits_.end() - begin));
  const auto end = std::find(begin, begin + static_cast<std::ptrdiff_t>(room), false);
  return PageRun{.first = static_cast<std::uint64_t>(begin - bits_.begin()),
                 .count = static_cast<std::uint64_t>(end - begin)};
}

}  // namespace bulkhead::vsp::memory
