// SPDX-License-Identifier: Apache-2.0
//
// boot-time                       prints the TSC: where lab/run --count makes it, the machine's time since its reset, in ns
// boot-time MARK COMMAND WORD...  runs the command until it prints MARK, and prints how many TSC ticks that took
//
// Each prints "boot-time TICKS".
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include <csignal>
#include <cstdio>
#include <string>

namespace {

/// Starts the command, with nothing to read and what it prints in the pipe whose reading end is returned.
int start(char** command, pid_t& process) {
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0) return -1;
  process = ::fork();
  if (process == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::dup2(output[1], STDERR_FILENO);
    ::execvp(command[0], command);
    ::_exit(127);
  }
  ::close(output[1]);
  return process < 0 ? -1 : output[0];
}

/// True when the mark came, false when the output ended before it did.
bool wait_for(int output, const std::string& mark, std::string& said) {
  char chunk[4096];
  for (;;) {
    const ssize_t length = ::read(output, chunk, sizeof(chunk));
    if (length <= 0) return false;
    said.append(chunk, static_cast<std::size_t>(length));
    if (said.find(mark) != std::string::npos) return true;
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 1) {
    std::printf("boot-time %llu\n", __rdtsc());
    return 0;
  }
  if (count < 3) {
    std::fputs("usage: boot-time [MARK COMMAND WORD...]\n", stderr);
    return 2;
  }
  pid_t process = -1;
  std::string said;
  const auto before = __rdtsc();
  const int output = start(arguments + 2, process);
  const bool came = output >= 0 && wait_for(output, arguments[1], said);
  const auto after = __rdtsc();
  if (process > 0) {
    ::kill(process, SIGTERM);
    ::close(output);
    ::waitpid(process, nullptr, 0);
  }
  if (!came) {
    std::fprintf(stderr, "'%s' did not come; all that came is: %s\n", arguments[1], said.c_str());
    return 1;
  }
  std::printf("boot-time %llu\n", after - before);
}
