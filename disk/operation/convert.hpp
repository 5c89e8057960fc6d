// SPDX-License-Identifier: Apache-2.0
//
// The new image grows under the name PATH.partial, with its progress in PATH.partial.state (one sector, written after
// each flush); under its own name it appears whole. So an interrupted conversion leaves nothing that looks finished,
// and the same command goes on where it was: if source and options are still the same, else from the beginning.
#pragma once

#include "disk/operation/create.hpp"
#include "disk/operation/progress.hpp"

namespace bulkhead::disk {

struct Conversion {
  std::string source;
  std::optional<Format> source_format;
  NewImage target;  // without size
  std::uint64_t checkpoint = 256 << 20;
  Progress progress;
};

Task<Result<>> convert(ImageStore& store, Conversion conversion);

}  // namespace bulkhead::disk
