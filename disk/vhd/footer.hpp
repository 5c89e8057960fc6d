// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/disk.hpp"
#include "disk/vhd/layout.hpp"

namespace bulkhead::disk::vhd {

bool is_valid(const Footer& footer);
bool is_valid(const DynamicHeader& header);
void seal(Footer& footer);
void seal(DynamicHeader& header);

/// A footer for a new disk of `size` bytes.
Footer make_footer(std::uint64_t size, DiskType type, const Guid& identity);
/// Enters a size and the cylinders, heads and sectors that belong to it.
void set_size(Footer& footer, std::uint64_t size);

}  // namespace bulkhead::disk::vhd
