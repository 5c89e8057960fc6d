// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/chain/chain.hpp"

namespace bulkhead::disk {

/// One image of a chain.
struct ImageInfo {
  std::string path;
  Properties properties;
  std::uint64_t file_size = 0;
  /// Of the virtual disk's bytes, those that have a place in this image.
  std::uint64_t allocated = 0;
  /// VHDX: the identity of its content; VHD and raw: zero.
  Guid data_write_guid;
  /// It was not closed; what its log held was applied.
  bool recovered = false;
  /// Where it says that its parent is, and who that is.
  std::optional<ParentReference> parent;
};

/// The image and, if they are there and are the right ones, all its parents. What ended the chain early is in
/// `problem`.
struct ChainInfo {
  std::vector<ImageInfo> images;
  std::optional<Error> problem;
};
Task<Result<ChainInfo>> chain_info(ImageStore& store, std::string path, std::optional<Format> format);

}  // namespace bulkhead::disk
