// SPDX-License-Identifier: Apache-2.0
//
// A disk of a machine, as its starter tells the worker: open descriptors and how to use them, as one JSON object.
//
//   {"kind":"disk","bus":"scsi","number":0,"format":"vhdx","read-only":false,"iops":0,"bps":0,
//    "files":[{"fd":7,"path":"/images/test.avhdx"},{"fd":8,"path":"/images/base.vhdx"}]}
//
// A differencing image has its whole chain in "files": the image itself first, each one's parent after it. The worker
// can open nothing else, whatever the images say. Paths are for messages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "error/error.hpp"

namespace bulkhead::worker {

struct DiskOption {
  struct File {
    int fd = -1;
    std::string path;

    bool operator==(const File&) const = default;
  };

  std::string kind = "disk";  // or "dvd"
  std::string bus = "scsi";   // or "ide"
  /// Where on the bus: 0 to 63 on SCSI, 0 to 3 on IDE. None: the first that is free.
  std::optional<std::uint8_t> number = {};
  std::string format = "raw";  // or "vhd", "vhdx"
  bool read_only = false;
  std::uint64_t iops = 0;        // operations a second; 0: no limit
  std::uint64_t bps = 0;         // bytes a second; 0: no limit
  std::vector<File> files = {};  // none: a DVD drive without a disc

  bool operator==(const DiskOption&) const = default;
};

std::string to_text(const DiskOption& option);
/// Errors: not such an object; a field that is unknown or out of range; a disk without files, a DVD drive with several.
Result<DiskOption> parse_disk_option(std::string_view text);

}  // namespace bulkhead::worker
