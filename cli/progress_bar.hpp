// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace bulkhead::cli {

/// How far a long operation is, on standard error if that is a terminal. While one exists, Ctrl-C and SIGTERM only ask
/// the operation to stop at its next safe point; a second one kills as usual.
class ProgressBar {
 public:
  explicit ProgressBar(std::string title);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// False once the operation is to stop.
  bool show(std::uint64_t done, std::uint64_t total);

 private:
  std::string title_;
  bool terminal_;
  int shown_ = -1;
};

}  // namespace bulkhead::cli
