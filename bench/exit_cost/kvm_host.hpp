// SPDX-License-Identifier: Apache-2.0
//
// The guest on Linux's KVM, as a program that wants nothing but speed would do it: bare ioctls, no library, exits
// answered in the loop.
#pragma once

#include <memory>

#include "bench/exit_cost/guest.hpp"

namespace bulkhead::bench {

/// Null, with a message on stderr, if there is no KVM here.
std::unique_ptr<Host> create_kvm_host();

}  // namespace bulkhead::bench
