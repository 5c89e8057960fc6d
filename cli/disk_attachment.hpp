// SPDX-License-Identifier: Apache-2.0
//
// --disk and --dvd of `bulkhead run`: from what the user wrote to open files for the worker. For a differencing image
// that is its whole chain, because the worker can open nothing itself.
#pragma once

#include <string>
#include <vector>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"
#include "worker/disk_option.hpp"

namespace bulkhead::cli {

struct DiskFiles {
  worker::DiskOption option;
  std::vector<engine::FileDescriptor> files;  // whose numbers the option has
};

/// FILE[,read-only][,iops=N][,bps=SIZE][,format=raw|vhd|vhdx][,bus=scsi|ide][,number=N]. Commas in the file's name are
/// its own as long as such a file is there. The format is what the name's ending says; a name that says nothing and a
/// content that looks like an image is an error, for the guest may have written that content into its raw disk.
Result<DiskFiles> open_disk_files(const std::string& text);
/// FILE, or "none" for a drive without a disc.
Result<DiskFiles> open_dvd_files(const std::string& text);

}  // namespace bulkhead::cli
