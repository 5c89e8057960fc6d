// SPDX-License-Identifier: Apache-2.0
//
// A set of guest pages, one bit each: its size does not depend on what a guest puts into it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace bulkhead::vsp::memory {

/// `count` pages from number `first` on.
struct PageRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;

  bool operator==(const PageRun&) const = default;
};

class PageSet {
 public:
  /// For pages with numbers below `limit`.
  explicit PageSet(std::uint64_t limit) : bits_(limit) {}

  std::uint64_t size() const { return size_; }
  /// Whether any page of the run is in the set. The runs here and below must be below the limit.
  bool has_any(const PageRun& run) const;
  void add(const PageRun& run);
  void remove(const PageRun& run);
  void clear();
  /// The first run of neighbours from page `from` on, at most `longest` pages of it.
  std::optional<PageRun> next_run(std::uint64_t from, std::uint64_t longest) const;

  const std::vector<bool>& bits() const { return bits_; }

 private:
  std::vector<bool> bits_;
  std::uint64_t size_ = 0;
};

}  // namespace bulkhead::vsp::memory
