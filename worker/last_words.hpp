// SPDX-License-Identifier: Apache-2.0
//
// What a guest's kernel says when it crashes, for people to read. The guest is not trusted with the reader's terminal: what is not
// printable becomes a question mark.
#pragma once

#include "engine/engine.hpp"
#include "worker/ending.hpp"

namespace bulkhead::worker {

/// The ending of a machine whose guest has crashed: in `detail` the line that says why (of a Linux kernel the one with "Kernel panic", else
/// the last one, else the crash registers), in `text` everything.
Ending ending_of(const engine::CrashExit& crash);

}  // namespace bulkhead::worker
