// SPDX-License-Identifier: Apache-2.0
//
// `bulkhead run`: starts one machine, is its console until it ends, and says how it ended.
#pragma once

#include <cstdint>
#include <string>

namespace bulkhead::cli {

/// As the user gave them.
struct RunOptions {
  std::string name = "vm";
  std::string memory = "512M";
  std::uint32_t vps = 1;
  std::string kernel;
  std::string initrd;  // may be empty
  std::string arguments;
  std::string console = "stdio";  // or "none", or "file:PATH"
  std::string engine = "auto";
  std::string on_reset = "exit";  // or "restart"
  bool debug_exit = false;
};

/// Gives the exit status of worker/ending.hpp, after one line on standard error that says the same.
int run_machine(const RunOptions& options);

}  // namespace bulkhead::cli
