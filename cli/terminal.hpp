// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <termios.h>

#include <optional>

namespace bulkhead::cli {

/// Whether the descriptor is a terminal whose foreground this process is in.
bool is_foreground_terminal(int descriptor);

/// A terminal that gives every key at once and unchanged, while this object lives. Lines written to it by others are
/// still shown as lines: output processing stays on.
class RawTerminal {
 public:
  /// Does nothing if the descriptor is no terminal.
  explicit RawTerminal(int descriptor);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  bool active() const { return before_.has_value(); }
  void restore();

 private:
  int descriptor_;
  std::optional<termios> before_;
};

}  // namespace bulkhead::cli
