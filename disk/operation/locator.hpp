// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/chain/chain.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {

/// What the image at `child` writes down to find and recognize `parent`, which is at `parent_path`. The separator is
/// Windows' one, as the formats want it.
vhdx::ParentLocator vhdx_locator(ImageStore& store, const std::string& child, const std::string& parent_path,
                                 const Disk& parent);
vhd::ParentLocator vhd_locator(ImageStore& store, const std::string& child, const std::string& parent_path,
                               const Disk& parent);

/// Makes `child` (opened for writing, of the same format as `parent`) name that parent.
Task<Result<>> set_parent_locator(ImageStore& store, const std::string& path, Disk& child,
                                  const std::string& parent_path, const Disk& parent);

}  // namespace bulkhead::disk
