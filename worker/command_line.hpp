// SPDX-License-Identifier: Apache-2.0
//
// The command line of bulkhead-vmwp: what its starter, `bulkhead run` or the manager, tells a worker. The worker gets
// files as open descriptors and not as paths, so that it needs no right to open anything. docs/man/bulkhead-vmwp.8
// describes each option.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "error/error.hpp"
#include "worker/disk_option.hpp"
#include "worker/dynamic_memory_settings.hpp"
#include "worker/integration_choice.hpp"

namespace bulkhead::worker {

struct CommandLine {
  std::string name = "vm";
  std::string engine = "auto";    // "native", "kvm" or "auto"
  std::uint64_t memory_size = 0;  // bytes
  std::uint32_t vp_count = 1;
  int kernel_fd = -1;
  std::optional<int> initrd_fd;
  std::optional<int> bios_fd;      // with the boot ROM: the kernel is started through a BIOS
  std::optional<int> boot_rom_fd;  // with the BIOS
  std::string kernel_arguments;
  std::optional<int> com1_fd;
  std::optional<int> com2_fd;
  std::optional<int> report_fd;
  bool debug_exit = false;
  std::optional<bool> vmbus = {};                            // none: if the engine can
  IntegrationChoice integration = {};                        // with a VMBus
  std::optional<DynamicMemorySettings> dynamic_memory = {};  // none: the memory does not change
  std::optional<int> control_fd;                             // a unix socket that listens
  std::vector<DiskOption> disks = {};
  bool restart_on_reset = false;

  bool operator==(const CommandLine&) const = default;
};

/// The arguments after the program's name that `parse` turns into the same again.
std::vector<std::string> to_arguments(const CommandLine& command_line);

/// Errors: an option that is unknown, twice (other than --disk), lacks its value or has a value out of range; no memory or no kernel.
Result<CommandLine> parse(std::span<const std::string> arguments);

}  // namespace bulkhead::worker
