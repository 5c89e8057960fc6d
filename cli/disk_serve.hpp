// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "disk/disk.hpp"

namespace bulkhead::cli {

struct ServeOptions {
  std::string path;
  std::string socket;
  std::uint16_t port = 10809;
  std::string address = "127.0.0.1";
  bool read_only = false;
  bool once = false;
  std::optional<disk::Format> format;
  std::vector<std::string> parent_directories;
};

/// Serves the disk until SIGINT or SIGTERM, then closes it in order.
Result<> serve_disk(const ServeOptions& options);

}  // namespace bulkhead::cli
