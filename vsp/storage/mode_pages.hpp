// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "vsp/storage/scsi_command.hpp"

namespace bulkhead::vsp::storage {

/// One mode page: its code, and what follows the page's length.
struct ModePage {
  std::uint8_t code;
  std::vector<std::uint8_t> body;
};

/// What comes before the pages.
struct ModeHeader {
  std::uint8_t device_specific = 0;
  /// Short block descriptor: number of blocks and their size; none: the unit has no block descriptors.
  struct Blocks {
    std::uint64_t count;
    std::uint32_t size;
  };
  std::optional<Blocks> blocks = {};
};

/// MODE SENSE (6) and (10), SPC-4 6.11: current and default values are the same, no bit can be changed.
ScsiResult mode_sense(const ScsiCommand& command, const ModeHeader& header, std::span<const ModePage> pages);

}  // namespace bulkhead::vsp::storage
