// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "disk/chain/image_store.hpp"
#include "disk/disk.hpp"

namespace bulkhead::disk {

struct OpenOptions {
  /// The image itself; its parents are always opened for reading.
  ImageStore::Access access = ImageStore::Access::read;
  /// The name's ending decides if this is not given. Never the content: a guest could write a VHDX header into its raw
  /// disk, and name any parent there.
  std::optional<Format> format;
  bool with_parents = true;
};

/// Opens an image and the chain of its parents. Fails if a parent is not there or is not the one that was meant.
Task<Result<std::unique_ptr<Disk>>> open_disk(ImageStore& store, std::string path, OpenOptions options = {});

/// ".vhdx" and ".avhdx", ".vhd" and ".avhd"; everything else is raw.
Format format_of_name(const std::string& path);

/// What an image says of its parent.
struct ParentReference {
  /// To be tried in this order; '/' between parts.
  std::vector<std::string> paths;
  /// VHDX: the parent's DataWriteGuid, as written in the child. VHD: its unique id.
  Guid linkage;
};
std::optional<ParentReference> parent_reference(const Disk& disk);

/// Opens the parent alone, and checks that it is the one that `child`'s image means.
struct OpenedParent {
  std::unique_ptr<Disk> disk;
  std::string path;
};
Task<Result<OpenedParent>> open_parent_of(ImageStore& store, const std::string& path, const Disk& child,
                                          OpenOptions options);
/// Opens all parents of `disk`, which was opened alone from `path`.
Task<Result<>> open_parents_of(ImageStore& store, std::string path, Disk& disk);
/// Whether `parent` has the content that `child` was made over.
bool links_to(const Disk& child, const Disk& parent);

}  // namespace bulkhead::disk
