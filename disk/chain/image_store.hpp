// SPDX-License-Identifier: Apache-2.0
//
// Where image files are, by name. Operations on images go through this, so that they work (and are tested) the same
// over the host's directories and over files in memory, and so that one place decides which parents may be opened.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "disk/file/file.hpp"
#include "disk/file/host_file.hpp"

namespace bulkhead::disk {

class ImageStore {
 public:
  enum class Access { read, write };
  struct Opened {
    std::unique_ptr<File> file;
    std::string path;
  };

  virtual ~ImageStore() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, Access access) = 0;
  /// A new empty file; one that exists is an error.
  virtual Result<std::unique_ptr<File>> create(const std::string& path) = 0;
  /// The parent that the image at `child` names with `reference`: a path relative to the image's directory, or
  /// absolute, with '/' between its parts. What an image names is not trusted: nothing outside of the directories that
  /// are allowed is opened.
  virtual Result<Opened> open_parent(const std::string& child, const std::string& reference, Access access) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual Result<> remove(const std::string& path) = 0;
  /// Replaces `to` if it exists; durable at its return.
  virtual Result<> rename(const std::string& from, const std::string& to) = 0;
  /// Something that changes when the file's content has changed.
  virtual std::string fingerprint(const std::string& path) = 0;
  /// What an image in `child`'s place writes down to name `parent`: relative, and absolute.
  virtual std::string relative_reference(const std::string& child, const std::string& parent) = 0;
  virtual std::string absolute_reference(const std::string& parent) = 0;
};

/// The host's file system. Parents may lie in the child's own directory and below, and in `parent_directories`.
class HostStore final : public ImageStore {
 public:
  HostStore(Ring& ring, std::vector<std::string> parent_directories = {})
      : ring_(ring), parent_directories_(std::move(parent_directories)) {}

  Result<std::unique_ptr<File>> open(const std::string& path, Access access) override;
  Result<std::unique_ptr<File>> create(const std::string& path) override;
  Result<Opened> open_parent(const std::string& child, const std::string& reference, Access access) override;
  bool exists(const std::string& path) override;
  Result<> remove(const std::string& path) override;
  Result<> rename(const std::string& from, const std::string& to) override;
  std::string fingerprint(const std::string& path) override;
  std::string relative_reference(const std::string& child, const std::string& parent) override;
  std::string absolute_reference(const std::string& parent) override;

 private:
  Ring& ring_;
  std::vector<std::string> parent_directories_;
};

}  // namespace bulkhead::disk
