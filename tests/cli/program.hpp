// SPDX-License-Identifier: Apache-2.0
//
// The program, started as a user starts it.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

namespace bulkhead::cli {

struct Outcome {
  int status;
  std::string text;  // standard output and error

  bool is_one_line() const { return !text.empty() && text.find('\n') == text.size() - 1; }
};

/// `arguments` as a shell takes them; nothing comes on standard input.
inline Outcome run(const std::string& arguments) {
  FILE* program = popen((std::string(BULKHEAD_PROGRAM) + " " + arguments + " 2>&1 </dev/null").c_str(), "r");
  std::string text;
  std::array<char, 4096> part;
  for (std::size_t count = 0; (count = fread(part.data(), 1, part.size(), program)) > 0;) {
    text.append(part.data(), count);
  }
  return {WEXITSTATUS(pclose(program)), text};
}

}  // namespace bulkhead::cli
