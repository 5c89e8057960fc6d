// SPDX-License-Identifier: Apache-2.0
#include "worker/ending.hpp"

#include <fmt/format.h>

namespace bulkhead::worker {

std::string_view word(EndingKind kind) {
  switch (kind) {
    case EndingKind::PoweredOff: return "powered off";
    case EndingKind::Exited: return "exited";
    case EndingKind::NotStarted: return "not started";
    case EndingKind::Reset: return "reset";
    case EndingKind::TripleFault: return "triple fault";
    case EndingKind::Panicked: return "panicked";
    case EndingKind::Failed: return "failed";
    case EndingKind::Stopped: return "stopped";
  }
  return "failed";
}

int exit_status(const Ending& ending) {
  switch (ending.kind) {
    case EndingKind::PoweredOff: return 0;
    case EndingKind::Exited: return static_cast<int>(ending.value & 0xff);
    case EndingKind::NotStarted: return 1;
    case EndingKind::Reset: return 80;
    case EndingKind::TripleFault: return 81;
    case EndingKind::Panicked: return 82;
    case EndingKind::Failed: return 83;
    case EndingKind::Stopped: return 84;
  }
  return 83;
}

std::string to_line(const Ending& ending) {
  std::string line(word(ending.kind));
  if (ending.kind == EndingKind::Exited) line += fmt::format(" with value {}", ending.value);
  if (ending.kind == EndingKind::Panicked && !ending.detail.empty()) return line + ": " + ending.detail;
  if (!ending.detail.empty()) line += fmt::format(" ({})", ending.detail);
  return line;
}

}  // namespace bulkhead::worker
