// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "disk/chain/image_store.hpp"
#include "engine/file_descriptor.hpp"

namespace bulkhead::worker {

/// The files of one disk, opened by somebody else: an image and its parents, each after its child. Whatever an image
/// names as its parent, it gets the next file of the list; the disk library checks that this is the one that is meant.
class DescriptorStore final : public disk::ImageStore {
 public:
  struct Entry {
    engine::FileDescriptor file;
    std::string path;
  };

  DescriptorStore(disk::Ring& ring, std::vector<Entry> entries) : ring_(ring), entries_(std::move(entries)) {}

  Result<std::unique_ptr<disk::File>> open(const std::string& path, Access access) override;
  Result<Opened> open_parent(const std::string& child, const std::string& reference, Access access) override;
  bool exists(const std::string& path) override;
  std::string fingerprint(const std::string&) override { return {}; }

  // A worker makes, moves and removes no files.
  Result<std::unique_ptr<disk::File>> create(const std::string& path) override { return refuse(path); }
  Result<> remove(const std::string& path) override { return refuse(path); }
  Result<> rename(const std::string& from, const std::string&) override { return refuse(from); }
  std::string relative_reference(const std::string&, const std::string& parent) override { return parent; }
  std::string absolute_reference(const std::string& parent) override { return parent; }

 private:
  static std::unexpected<Error> refuse(const std::string& path);
  Result<std::unique_ptr<disk::File>> adopt(Entry& entry, Access access);

  disk::Ring& ring_;
  std::vector<Entry> entries_;
};

}  // namespace bulkhead::worker
