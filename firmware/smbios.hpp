// SPDX-License-Identifier: Apache-2.0
//
// SMBIOS (DSP0134 3.6): the machine's name, for dmidecode, systemd and those who ask whether they are virtual.
#pragma once

#include "firmware/byte_writer.hpp"
#include "firmware/firmware.hpp"

namespace bulkhead::firmware {

/// The 64-bit entry point and the structures as they lie in memory from `base` on, which is a multiple of 16.
Bytes build_smbios(const MachineDescription& machine, std::uint64_t base);

}  // namespace bulkhead::firmware
