// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/chain/chain.hpp"

namespace bulkhead::disk {

/// What a check found in one image.
struct Finding {
  enum class Severity {
    note,   // nothing is wrong with the disk: space that nobody uses, a log that was replayed
    error,  // something is wrong
    lost,   // something is wrong, and a repair cannot bring the data back
  };
  Severity severity;
  std::string text;
  bool repaired = false;
};

struct CheckReport {
  std::vector<Finding> findings;  // the first of them
  std::uint64_t omitted = 0;      // how many more there were
  std::uint64_t unrepaired = 0;   // errors and losses that are still there
  std::uint64_t blocks = 0;       // of the disk
  std::uint64_t allocated = 0;    // of them in the file
  std::uint64_t unused = 0;       // bytes of the file that nothing refers to
  /// Nothing is wrong, or everything that was has been repaired.
  bool clean() const { return unrepaired == 0; }
};

enum class Repairing { no, yes };

/// Looks at all of an image's tables. With repair, brings back what can be: copies of headers and footers from the
/// other one, table entries that cannot be right become empty blocks.
Task<Result<CheckReport>> check_image(ImageStore& store, std::string path, std::optional<Format> format,
                                      Repairing repairing);

}  // namespace bulkhead::disk
