// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/chain/chain.hpp"

namespace bulkhead::disk {

/// What a new image is to be; what is zero or empty gets its usual value.
struct NewImage {
  std::string path;
  std::optional<Format> format;  // by the name's ending if not given
  Kind kind = Kind::dynamic;
  std::uint64_t size = 0;  // of a differencing image: its parent's if zero
  std::uint32_t block = 0;
  std::uint32_t logical_sector = 0;   // 512; of a differencing image its parent's
  std::uint32_t physical_sector = 0;  // 4096
  bool azure = false;                 // VHD: the size in whole mebibytes
  std::string parent;
};

/// Makes the file. If anything fails, there is none.
Task<Result<>> create_image(ImageStore& store, NewImage image);

}  // namespace bulkhead::disk
