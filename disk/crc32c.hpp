// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bulkhead::disk {

/// CRC-32C (Castagnoli, reflected), as VHDX uses it. `previous` continues an earlier piece's result.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous = 0);

}  // namespace bulkhead::disk
