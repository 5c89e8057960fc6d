// SPDX-License-Identifier: Apache-2.0
//
// An emulated machine for a test: lab/run in a process of its own, its first serial port on our pipes.
//
//   Machine ──type──▶ root's console ──▶ shell        run("nproc") sends a line and waits for the mark after it
//           ◀─wait_for────────────────── output       hypervisor_console() is the file of the second serial port
//           ──control──▶ QEMU's monitor               NMI; how the machine ended
//
// Whatever does not come in its time throws Failure, with the end of both consoles in it: the test fails and says why.
#pragma once

#include <sys/types.h>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/lab/control.hpp"

namespace bulkhead::lab {

using Seconds = std::chrono::seconds;

enum class Below : std::uint8_t { Bulkhead, Nothing };  // what is under the first Linux
enum class Loader : std::uint8_t { Multiboot1, GrubMultiboot2 };

struct MachineSettings {
  std::string root = "6.1-cloud";  // a kernel of lab/kernels
  Below below = Below::Bulkhead;
  Loader loader = Loader::Multiboot1;
  bool xsave = false;  // also where KVM runs: lab/run says what that costs
  unsigned processors = 2;
  bool one_thread = false;  // they take turns
  unsigned memory_mib = 2048;
  std::string disk = {};          // a file for the first Linux's /dev/vda, in build/lab
  std::string mode = "commands";  // lab/root/init
  std::string append = {};        // to the root's kernel command line
  Seconds boot_time = Seconds(120);
};

class Failure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Answer {
  int status;          // of the command, as the shell has it
  std::string output;  // what was printed meanwhile, without carriage returns
};

class Machine {
 public:
  /// Starts the machine; with mode "commands", returns when the root's shell takes commands.
  explicit Machine(const MachineSettings& settings = {});
  /// Ends the machine if it still runs.
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Starts a shell command in the root, and does not wait for its end. Only in mode "commands".
  void send(std::string_view command);
  /// Runs a shell command in the root. Only in mode "commands".
  Answer run(std::string_view command, Seconds limit = Seconds(60));
  /// The same, and the status must be 0. Returns the output.
  std::string must_run(std::string_view command, Seconds limit = Seconds(60));

  /// The lines of the root's kernel log that no healthy kernel writes: stalls, lockups, warnings with a trace.
  std::string kernel_complaints();

  /// Sends keys to the root's console.
  void type(std::string_view keys);
  /// Waits until `mark` appears on the root's console, after what was waited for before. Returns what came up to it.
  std::string wait_for(std::string_view mark, Seconds limit);

  void inject_nmi();
  /// Waits until the machine ends by itself.
  MachineEnd wait_for_end(Seconds limit);

  /// Everything the hypervisor has printed.
  std::string hypervisor_console() const;

 private:
  void start(const MachineSettings& settings);
  /// Reads what is there on the console, or waits for it. False at the end of the stream, or at the deadline.
  bool read_console(std::chrono::steady_clock::time_point deadline);
  [[noreturn]] void give_up(const std::string& what) const;
  /// How the emulator ended, and what it had to say.
  std::string last_words();

  std::filesystem::path folder_;  // for the control socket and the hypervisor's console
  pid_t process_ = -1;
  int to_console_ = -1;
  int from_console_ = -1;
  bool console_closed_ = false;
  std::string transcript_;
  std::size_t seen_ = 0;  // how much of the transcript was waited for
  unsigned commands_ = 0;
  std::unique_ptr<Control> control_;
};

/// Text without carriage returns, as terminals send them.
std::string without_returns(std::string_view text);

}  // namespace bulkhead::lab
