// SPDX-License-Identifier: Apache-2.0
//
// A command that is measured: a process with nothing to read, whose output says how far it has come.
#pragma once

#include <sys/types.h>

#include <string>

namespace bulkhead::bench {

class Command {
 public:
  /// Starts the words, which end with a null pointer.
  explicit Command(char** words);
  /// Ends it (SIGTERM), if it has not ended by itself.
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  /// Reads more of its output, and waits for it if `milliseconds` allow; below 0: without limit.
  enum class Read { Something, NothingYet, End };
  Read read(int milliseconds = -1);
  /// Everything that it has said.
  const std::string& said() const { return said_; }
  bool has_said(const std::string& mark) const { return said_.find(mark) != std::string::npos; }
  pid_t process() const { return process_; }

 private:
  pid_t process_ = -1;
  int output_ = -1;
  std::string said_;
};

}  // namespace bulkhead::bench
