// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <memory>
#include <set>

#include "disk/chain/image_store.hpp"
#include "tests/disk/test_files.hpp"

namespace bulkhead::disk {

/// Image files in memory, all in one directory, with the locks that real ones have. A test may put a layer of its own
/// over each file that is opened for writing.
class MemoryStore final : public ImageStore {
 public:
  using Wrap = std::function<std::unique_ptr<File>(MemoryFile&)>;

  MemoryFile& file(const std::string& path) { return *files_.at(path); }
  void put(const std::string& path, std::unique_ptr<MemoryFile> file) { files_[path] = std::move(file); }
  void set_wrap(Wrap wrap) { wrap_ = std::move(wrap); }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, file] : files_) {
      result.push_back(name);
    }
    return result;
  }

  Result<std::unique_ptr<File>> open(const std::string& path, Access access) override {
    const auto found = files_.find(path);
    if (found == files_.end()) {
      return fail(fmt::format("cannot open '{}': No such file or directory", path));
    }
    auto& users = users_[path];
    if (access == Access::write ? users != 0 : users < 0) {
      return fail(fmt::format("cannot use '{}': another program is using it", path));
    }
    users = access == Access::write ? -1 : users + 1;
    std::unique_ptr<File> file =
        access == Access::write && wrap_ ? wrap_(*found->second) : std::make_unique<BorrowedFile>(*found->second);
    return std::make_unique<Locked>(std::move(file), users, access);
  }

  Result<std::unique_ptr<File>> create(const std::string& path) override {
    if (files_.contains(path)) {
      return fail(fmt::format("cannot create '{}': File exists", path));
    }
    files_[path] = std::make_unique<MemoryFile>(path);
    return open(path, Access::write);
  }

  Result<Opened> open_parent(const std::string&, const std::string& reference, Access access) override {
    const auto name = reference.starts_with("./") ? reference.substr(2) : reference;
    auto file = open(name, access);
    if (!file) {
      return std::unexpected(file.error());
    }
    return Opened{std::move(*file), name};
  }

  bool exists(const std::string& path) override { return files_.contains(path); }
  Result<> remove(const std::string& path) override {
    files_.erase(path);
    return {};
  }
  Result<> rename(const std::string& from, const std::string& to) override {
    files_[to] = std::move(files_.at(from));
    files_.erase(from);
    return {};
  }
  std::string fingerprint(const std::string& path) override { return std::to_string(file(path).size()); }
  std::string relative_reference(const std::string&, const std::string& parent) override { return parent; }
  std::string absolute_reference(const std::string& parent) override { return "/" + parent; }

 private:
  /// Gives its lock back at its end, and refuses to write when opened for reading.
  class Locked final : public File {
   public:
    Locked(std::unique_ptr<File> file, int& users, Access access)
        : file_(std::move(file)), users_(users), access_(access) {}
    ~Locked() override { users_ = access_ == Access::write ? 0 : users_ - 1; }
    const std::string& name() const override { return file_->name(); }
    bool writable() const override { return access_ == Access::write; }
    std::uint64_t size() const override { return file_->size(); }
    Task<Result<>> read(std::uint64_t offset, Buffers buffers) override { return file_->read(offset, buffers); }
    Task<Result<>> write(std::uint64_t offset, Buffers buffers) override {
      EXPECT_TRUE(writable());
      return file_->write(offset, buffers);
    }
    Task<Result<>> flush() override { return file_->flush(); }
    Task<Result<>> begin_flush(std::uint64_t offset, std::uint64_t length) override {
      return file_->begin_flush(offset, length);
    }
    Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override {
      EXPECT_TRUE(writable());
      return file_->zero(offset, length, zeroing);
    }
    Task<Result<>> resize(std::uint64_t size) override {
      EXPECT_TRUE(writable());
      return file_->resize(size);
    }
    Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override {
      return file_->query(offset, length);
    }

   private:
    std::unique_ptr<File> file_;
    int& users_;
    Access access_;
  };

  std::map<std::string, std::unique_ptr<MemoryFile>> files_;
  std::map<std::string, int> users_;  // readers, or -1: a writer
  Wrap wrap_;
};

}  // namespace bulkhead::disk
