// SPDX-License-Identifier: Apache-2.0
//
// How the run of a virtual machine ended. Each way has one word, which people read, and one exit status, which programs
// read; `bulkhead-vmwp` and `bulkhead run` use the same.
//
//   word           status     what happened
//   powered off    0          the guest turned the machine off
//   exited         its value  the guest ended itself through the debug exit port
//   not started    1          the machine could not be started; nothing of the guest ran
//   (usage)        2          the command line is wrong
//   reset          80         the guest asked for a reset, and the machine does not restart
//   triple fault   81         a processor of the guest shut down
//   panicked       82         the guest's kernel reported a panic
//   failed         83         the machine could not go on: an instruction that cannot be emulated, a lost hypervisor
//   stopped        84         from outside: the user left, or a signal came
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bulkhead::worker {

enum class EndingKind : std::uint8_t { PoweredOff, Exited, NotStarted, Reset, TripleFault, Panicked, Failed, Stopped };

inline constexpr int kUsageStatus = 2;

struct Ending {
  EndingKind kind;
  /// What led to it, e.g. "keyboard controller" or why it failed; may be empty.
  std::string detail = {};
  /// Of Exited: the value that the guest wrote.
  std::uint32_t value = 0;
  /// Of Panicked: what the guest's kernel said, in lines of printable characters; may be empty.
  std::string text = {};

  bool operator==(const Ending&) const = default;
};

std::string_view word(EndingKind kind);

/// The exit status from the table above. Of Exited the low 8 bits of the value, for a status has no more.
int exit_status(const Ending& ending);

/// One line for a person, e.g. "reset (keyboard controller)".
std::string to_line(const Ending& ending);

}  // namespace bulkhead::worker
