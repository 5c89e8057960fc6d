// SPDX-License-Identifier: Apache-2.0
//
// The guest on Bulkhead, through the engine that the worker uses: what is measured is what a machine's devices get.
#pragma once

#include <memory>

#include "bench/exit_cost/guest.hpp"

namespace bulkhead::bench {

/// Null, with a message on stderr, if the hypervisor is not below us.
std::unique_ptr<Host> create_native_host();

}  // namespace bulkhead::bench
