// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/machine.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <charconv>
#include <csignal>
#include <fstream>
#include <sstream>
#include <vector>

namespace bulkhead::lab {
namespace {

using Clock = std::chrono::steady_clock;

std::string read_file(const std::filesystem::path& path) {
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string tail_of(const std::string& text) {
  constexpr std::size_t kLength = 3000;
  return text.size() <= kLength ? text : text.substr(text.size() - kLength);
}

std::vector<std::string> arguments_of(const MachineSettings& settings, const std::filesystem::path& folder) {
  std::vector<std::string> arguments = {
      BULKHEAD_SOURCE_DIR "/lab/run",
      "--root",
      settings.root,
      "--processors",
      std::to_string(settings.processors),
      "--memory",
      std::to_string(settings.memory_mib),
      "--mode",
      settings.mode,
      "--append",
      settings.append,
      "--log",
      folder / "hypervisor.log",
      "--control",
      folder / "control",
  };
  if (!settings.disk.empty()) {
    arguments.insert(arguments.end(), {"--disk", BULKHEAD_SOURCE_DIR "/build/lab/" + settings.disk});
  }
  if (settings.below == Below::Nothing) arguments.emplace_back("--bare");
  if (settings.xsave) arguments.emplace_back("--xsave");
  if (settings.one_thread) arguments.emplace_back("--one-thread");
  if (settings.loader == Loader::GrubMultiboot2) arguments.emplace_back("--iso");
  return arguments;
}

}  // namespace

Machine::Machine(const MachineSettings& settings) {
  std::string pattern = std::filesystem::temp_directory_path() / "bulkhead-lab-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw Failure("cannot make a temporary folder");
  folder_ = pattern;
  start(settings);
  // lab/run may first make a disk for GRUB.
  auto control = Control::connect(folder_ / "control", Seconds(60));
  if (!control) give_up("the machine does not start: " + read_file(folder_ / "run.log"));
  control_ = std::make_unique<Control>(std::move(*control));
  if (settings.mode == "commands") wait_for("root: ready\n", settings.boot_time);
}

Machine::~Machine() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  if (to_console_ >= 0) ::close(to_console_);
  if (from_console_ >= 0) ::close(from_console_);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Machine::start(const MachineSettings& settings) {
  const auto arguments = arguments_of(settings, folder_);
  std::vector<const char*> pointers;
  for (const auto& argument : arguments) pointers.push_back(argument.c_str());
  pointers.push_back(nullptr);

  int input[2];
  int output[2];
  if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0) throw Failure("cannot make pipes");
  const int log = ::open((folder_ / "run.log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  process_ = ::fork();
  if (process_ < 0) throw Failure("cannot start a process");
  if (process_ == 0) {
    // A test that is killed takes its machine with it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(input[0], STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execv(pointers[0], const_cast<char* const*>(pointers.data()));
    ::_exit(127);
  }
  ::close(log);
  ::close(input[0]);
  ::close(output[1]);
  to_console_ = input[1];
  from_console_ = output[0];
}

void Machine::send(std::string_view command) { type(fmt::format("{} {}\n", ++commands_, command)); }

Answer Machine::run(std::string_view command, Seconds limit) {
  send(command);
  const std::string mark = fmt::format("@@{} ", commands_);
  std::string output = wait_for(mark, limit);
  const std::string status_text = wait_for(" @@\n", Seconds(30));
  int status = -1;
  std::from_chars(status_text.data(), status_text.data() + status_text.size(), status);
  output.resize(output.size() - mark.size());
  return {status, output};
}

std::string Machine::must_run(std::string_view command, Seconds limit) {
  Answer answer = run(command, limit);
  if (answer.status != 0) give_up(fmt::format("'{}' ended with status {}: {}", command, answer.status, answer.output));
  return answer.output;
}

std::string Machine::kernel_complaints() {
  return run("dmesg | grep -E 'rcu.*(stall|self-detected)|soft lockup|hard LOCKUP|blocked for "
             "more|clocksource.*unstable|"
             "BUG:|WARNING: CPU|Call Trace|Oops'")
      .output;
}

void Machine::type(std::string_view keys) {
  while (!keys.empty()) {
    const ssize_t length = ::write(to_console_, keys.data(), keys.size());
    if (length < 0) give_up("the machine takes no input");
    keys.remove_prefix(static_cast<std::size_t>(length));
  }
}

std::string Machine::wait_for(std::string_view mark, Seconds limit) {
  const auto deadline = Clock::now() + limit;
  for (;;) {
    const std::string unseen = without_returns(std::string_view(transcript_).substr(seen_));
    if (const auto at = unseen.find(mark); at != std::string::npos) {
      transcript_.replace(seen_, std::string::npos, unseen);
      seen_ += at + mark.size();
      return unseen.substr(0, at + mark.size());
    }
    if (!read_console(deadline)) {
      give_up(console_closed_ ? fmt::format("the machine ended before '{}' came: {}", mark, last_words())
                              : fmt::format("'{}' did not come within {} s", mark, limit.count()));
    }
  }
}

bool Machine::read_console(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  pollfd readable = {from_console_, POLLIN, 0};
  if (left <= 0 || ::poll(&readable, 1, static_cast<int>(left)) <= 0) return false;
  char chunk[4096];
  const ssize_t length = ::read(from_console_, chunk, sizeof(chunk));
  console_closed_ = length <= 0;
  if (console_closed_) return false;
  transcript_.append(chunk, static_cast<std::size_t>(length));
  return true;
}

std::string Machine::last_words() {
  int status = 0;
  ::waitpid(process_, &status, 0);
  process_ = -1;
  const auto how = WIFSIGNALED(status) ? fmt::format("by signal {}", WTERMSIG(status))
                                       : fmt::format("with status {}", WEXITSTATUS(status));
  return fmt::format("the emulator ended {} {}", how, tail_of(read_file(folder_ / "run.log")));
}

void Machine::inject_nmi() {
  if (!control_->execute("inject-nmi")) give_up("the machine has gone");
}

MachineEnd Machine::wait_for_end(Seconds limit) {
  const auto end = control_->wait_for_end(limit);
  if (!end) give_up(fmt::format("the machine did not end within {} s", limit.count()));
  while (read_console(Clock::now() + Seconds(10))) {
  }
  ::waitpid(process_, nullptr, 0);
  process_ = -1;
  return *end;
}

std::string Machine::hypervisor_console() const { return read_file(folder_ / "hypervisor.log"); }

void Machine::give_up(const std::string& what) const {
  throw Failure(fmt::format("{}\n--- the root's console ends with\n{}\n--- the hypervisor's console ends with\n{}\n---",
                            what, tail_of(transcript_), tail_of(hypervisor_console())));
}

std::string without_returns(std::string_view text) {
  std::string result(text);
  std::erase(result, '\r');
  return result;
}

}  // namespace bulkhead::lab
