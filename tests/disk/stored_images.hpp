// SPDX-License-Identifier: Apache-2.0
// Making, writing and reading images in a store, in one line each.
#pragma once

#include <gtest/gtest.h>

#include "disk/operation/create.hpp"
#include "tests/disk/memory_store.hpp"

namespace bulkhead::disk {

inline OpenOptions for_writing() {
  OpenOptions options;
  options.access = ImageStore::Access::write;
  return options;
}

inline std::unique_ptr<Disk> open(ImageStore& store, const std::string& path, OpenOptions options = {}) {
  auto disk = now(open_disk(store, path, options));
  EXPECT_TRUE(succeeds(disk));
  return disk ? std::move(*disk) : nullptr;
}

inline NewImage image(const std::string& path, std::uint64_t size, Kind kind = Kind::dynamic) {
  NewImage made;
  made.path = path;
  made.size = size;
  made.kind = kind;
  made.block = format_of_name(path) == Format::vhdx ? 1 << 20 : 0;
  return made;
}

inline void write(ImageStore& store, const std::string& path, std::uint64_t offset, std::span<const std::byte> bytes) {
  auto disk = open(store, path, for_writing());
  ASSERT_TRUE(disk);
  EXPECT_TRUE(succeeds(now(write_bytes(*disk, offset, bytes))));
  EXPECT_TRUE(succeeds(now(disk->close())));
}

inline std::vector<std::byte> content_of(ImageStore& store, const std::string& path) {
  auto disk = open(store, path);
  return disk ? content(*disk) : std::vector<std::byte>();
}

}  // namespace bulkhead::disk
