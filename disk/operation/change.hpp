// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/chain/chain.hpp"
#include "disk/operation/progress.hpp"

namespace bulkhead::disk {

/// Changes an open image's size, as its format does it; nothing else uses it meanwhile. Cuts without asking.
Task<Result<>> resize_disk(Disk& disk, std::uint64_t size);

/// Makes the disk larger or smaller; smaller only if nothing but zeros lies behind the new end.
Task<Result<>> resize_image(ImageStore& store, std::string path, std::optional<Format> format, std::uint64_t size);

/// Gives back blocks of zeros, moves the others together and cuts the file.
Task<Result<>> compact_image(ImageStore& store, std::string path, std::optional<Format> format, Progress progress);

/// Writes what a differencing image holds into its parent; then the image goes, unless it is to be kept. Other children
/// of the parent become invalid with its first change, as they must.
enum class MergedChild { remove, keep };
Task<Result<>> merge_image(ImageStore& store, std::string path, std::optional<Format> format, MergedChild child,
                           Progress progress);

/// Copies what shows through a differencing image into it, and cuts it off from its parent.
Task<Result<>> flatten_image(ImageStore& store, std::string path, std::optional<Format> format, Progress progress);

/// Gives a differencing image another parent.
enum class Rebasing {
  reconnect,  // the same parent, at another place: its identity must be right
  copy,       // a different one: what the image showed of the old chain and the new one does not have is copied first
};
Task<Result<>> rebase_image(ImageStore& store, std::string path, std::optional<Format> format, std::string parent,
                            Rebasing rebasing, Progress progress);

}  // namespace bulkhead::disk
