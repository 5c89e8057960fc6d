// SPDX-License-Identifier: Apache-2.0
#include "bench/command/command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace bulkhead::bench {

Command::Command(char** words) {
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0) return;
  process_ = ::fork();
  if (process_ == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::dup2(output[1], STDERR_FILENO);
    ::execvp(words[0], words);
    ::_exit(127);
  }
  ::close(output[1]);
  output_ = output[0];
}

Command::~Command() {
  if (process_ > 0) ::kill(process_, SIGTERM);
  if (output_ >= 0) ::close(output_);
  if (process_ > 0) ::waitpid(process_, nullptr, 0);
}

Command::Read Command::read(int milliseconds) {
  pollfd readable = {output_, POLLIN, 0};
  if (process_ < 0) return Read::End;
  if (::poll(&readable, 1, milliseconds) <= 0) return Read::NothingYet;
  char chunk[4096];
  const ssize_t length = ::read(output_, chunk, sizeof(chunk));
  if (length <= 0) return Read::End;
  said_.append(chunk, static_cast<std::size_t>(length));
  return Read::Something;
}

}  // namespace bulkhead::bench
