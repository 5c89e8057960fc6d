// SPDX-License-Identifier: Apache-2.0
//
// The commands that speak to a running machine, found by its name: status, inspect, events, shutdown, reboot, hibernate,
// stop, reset, pause, resume, kvp, addresses, freeze, thaw, copy, memory.
#pragma once

#include <CLI/CLI.hpp>

namespace bulkhead::cli {

/// Adds the commands. Their exit status: 0; 1 if it did not work, after one line that says why.
void add_machine_commands(CLI::App& app, int& status);

}  // namespace bulkhead::cli
