// SPDX-License-Identifier: Apache-2.0
//
// `bulkhead host info`: which engines work on this host and, where one does not, why; its processors and memory; and
// what the hypervisor says of itself, where it runs.
#pragma once

namespace bulkhead::cli {

/// Prints to standard output. Gives the exit status: 0, or 1 if no engine works here.
int show_host(bool as_json);

}  // namespace bulkhead::cli
