// SPDX-License-Identifier: Apache-2.0
//
// What a machine's devices are called for its life: made of the machine's name and the device's place, so that the same
// machine started again, or somewhere else, shows its guest the same devices.
#pragma once

#include <string_view>

#include "abi/guid.hpp"
#include "disk/guid.hpp"

namespace bulkhead::worker {

/// A name-based GUID (RFC 4122, version 5), for example of "web server" and "scsi0".
disk::Guid device_identity(std::string_view machine, std::string_view device);

/// The same bytes, as VMBus has them.
abi::Guid to_wire(const disk::Guid& guid);

}  // namespace bulkhead::worker
