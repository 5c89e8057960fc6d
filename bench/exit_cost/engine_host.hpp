// SPDX-License-Identifier: Apache-2.0
//
// The guest through the engine that the worker uses: what is measured is what a machine's devices get. The engine is over
// our hypervisor ("native") or over Linux's KVM ("kvm").
#pragma once

#include <memory>
#include <string_view>

#include "bench/exit_cost/guest.hpp"

namespace bulkhead::bench {

/// Null, with a message on stderr, if that is not below us.
std::unique_ptr<Host> create_engine_host(std::string_view engine);

}  // namespace bulkhead::bench
