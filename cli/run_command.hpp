// SPDX-License-Identifier: Apache-2.0
//
// `bulkhead run`: starts one machine, is its console until it ends, and says how it ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::cli {

/// As the user gave them.
struct RunOptions {
  std::string name = "vm";
  bool named = false;  // by the user: the machine has a control socket of this name
  std::string memory = "512M";
  std::uint32_t vps = 1;
  std::string kernel;
  std::string initrd;  // may be empty
  std::string arguments;
  std::string firmware = "none";  // or "bios"
  std::string console = "stdio";  // or "none", or "file:PATH"
  std::string engine = "auto";
  std::string on_reset = "exit";  // or "restart"
  bool debug_exit = false;
  std::optional<bool> vmbus;   // none: if the engine can
  std::string integration;     // services, as worker/integration_choice.hpp has them; empty: all
  std::string memory_minimum;  // empty, as the following: as at the start
  std::string memory_maximum;
  std::optional<std::uint32_t> memory_buffer;  // percent
  std::optional<std::uint32_t> memory_weight;
  std::vector<std::string> disks;  // as cli/disk_attachment.hpp has them
  std::vector<std::string> dvds;
};

/// Gives the exit status of worker/ending.hpp, after one line on standard error that says the same.
int run_machine(const RunOptions& options);

}  // namespace bulkhead::cli
