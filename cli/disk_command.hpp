// SPDX-License-Identifier: Apache-2.0
//
// `bulkhead disk ...`: making, looking at, changing and lending virtual disks. What the operations do is in the disk
// room; here are their command lines and what they print.
#pragma once

#include <CLI/CLI.hpp>

namespace bulkhead::cli {

/// Adds the command to `app`. `status` becomes the exit status: 0; 1 if something failed, with one line on standard
/// error; 2 if a check found something that was not repaired.
void add_disk(CLI::App& app, int& status);

}  // namespace bulkhead::cli
