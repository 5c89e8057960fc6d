// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.hpp"

#include <unistd.h>

namespace bulkhead::cli {

bool is_foreground_terminal(int descriptor) { return isatty(descriptor) == 1 && tcgetpgrp(descriptor) == getpgrp(); }

RawTerminal::RawTerminal(int descriptor) : descriptor_(descriptor) {
  termios settings{};
  if (isatty(descriptor) != 1 || tcgetattr(descriptor, &settings) != 0) return;
  const termios before = settings;
  cfmakeraw(&settings);
  settings.c_oflag = before.c_oflag;
  if (tcsetattr(descriptor, TCSADRAIN, &settings) == 0) before_ = before;
}

RawTerminal::~RawTerminal() { restore(); }

void RawTerminal::restore() {
  if (before_) tcsetattr(descriptor_, TCSADRAIN, &*before_);
  before_.reset();
}

}  // namespace bulkhead::cli
