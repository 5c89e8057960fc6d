// SPDX-License-Identifier: Apache-2.0
//
// What a worker tells its starter while it runs: one JSON object a line, on the descriptor --report-fd.
//
//   {"event":"started","engine":"native"}
//   {"event":"restarted","why":"keyboard controller"}
//   {"event":"paused","why":"the host has no room for the disk ..."}
//   {"event":"resumed"}
//   {"event":"ended","how":"powered off","detail":"ACPI","status":0}
//
// The end of the stream without "ended" means that the worker was killed.
#pragma once

#include <string>
#include <string_view>

#include "worker/ending.hpp"

namespace bulkhead::worker {

/// Writes reports to a descriptor that it does not own; to nowhere if that is negative. A starter that has gone, or
/// does not read, loses reports and does not hold the worker up.
class Reporter {
 public:
  explicit Reporter(int descriptor);

  /// Whether somebody was to hear of it.
  bool has_reader() const { return descriptor_ >= 0; }

  void started(std::string_view engine);
  void restarted(std::string_view why);
  void paused(std::string_view why);
  void resumed();
  void ended(const Ending& ending);

 private:
  void send(std::string line);

  int descriptor_;
};

}  // namespace bulkhead::worker
