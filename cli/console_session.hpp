// SPDX-License-Identifier: Apache-2.0
//
// The time from a worker's start to its end, as the user at the terminal sees it:
//
//   keyboard ── Ctrl-] ? ──▶ socket ──▶ worker: COM1       reports ──▶ how the guest ended
//   screen ◀──────────────── socket ◀──                    signals ──▶ end the worker
//
// Where standard input is no terminal, it is a plain pipe: no key is special, and its end closes only this direction.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/worker_process.hpp"
#include "engine/file_descriptor.hpp"
#include "worker/ending.hpp"

namespace bulkhead::cli {

/// How a worker ended, as its report or else its status tells.
struct WorkerEnd {
  int status;        // the exit status to pass on
  std::string line;  // for the user, e.g. "powered off (ACPI)"
  bool started;      // the guest ran
};

struct ConsoleDescriptors {
  int input;  // the user's; negative: none
  int output;
};

/// What the user's input is: keys of a terminal in raw mode, of which Ctrl-] leaves, or any bytes.
enum class InputKind : std::uint8_t { Bytes, Keys };

class ConsoleSession {
 public:
  static constexpr char kLeaveKey = 0x1d;  // Ctrl-]

  /// `console` is our end of the socket that is the guest's COM1; none: the guest has no console here. From here to the
  /// end of this object, signals that would end this process end the worker instead, so that the caller can change the
  /// terminal and is sure to change it back.
  ConsoleSession(WorkerProcess& worker, engine::FileDescriptor console, ConsoleDescriptors user);
  ~ConsoleSession();

  /// Passes bytes on until the worker has ended.
  WorkerEnd run(InputKind input);

 private:
  void wait_for_events(int timeout);
  void read_input();
  void read_console();
  void write_screen();
  void write_console();
  void read_reports();
  void read_signal();
  /// Tells the worker to end; one that does not, or is told twice, is killed.
  void end_worker(std::string why);
  void take_report(const std::string& line);
  int milliseconds_to_kill() const;
  void drain_console();
  WorkerEnd conclude();

  WorkerProcess& worker_;
  engine::FileDescriptor console_;
  ConsoleDescriptors user_;
  InputKind input_kind_ = InputKind::Bytes;
  engine::FileDescriptor signals_;

  std::string to_screen_;
  std::string to_console_;
  std::string report_text_;
  std::optional<WorkerEnd> reported_;
  bool guest_started_ = false;
  bool worker_gone_ = false;
  std::string left_because_;  // why we ended the worker; empty: we did not
  std::chrono::steady_clock::time_point kill_at_{};
};

}  // namespace bulkhead::cli
