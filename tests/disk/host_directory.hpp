// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "disk/chain/chain.hpp"
#include "tests/disk/test_files.hpp"

namespace bulkhead::disk {

/// Tests over files of the host: a directory that goes away afterwards, a ring, and other programs.
class HostDirectory : public testing::Test {
 protected:
  HostDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "bulkhead-disk-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
    auto ring = Ring::create();
    EXPECT_TRUE(succeeds(ring));
    ring_ = std::move(*ring);
    store_ = std::make_unique<HostStore>(*ring_);
  }
  ~HostDirectory() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  std::string path(const std::string& name) const { return (directory_ / name).string(); }

  template <typename T>
  T wait(Task<T> task) {
    return run(std::move(task), [this] { ring_->wait(); });
  }

  std::unique_ptr<Disk> open(const std::string& name, ImageStore::Access access = ImageStore::Access::read) {
    OpenOptions options;
    options.access = access;
    auto disk = wait(open_disk(*store_, path(name), options));
    EXPECT_TRUE(succeeds(disk));
    return disk ? std::move(*disk) : nullptr;
  }

  std::vector<std::byte> content_of(const std::string& name) {
    auto disk = open(name);
    std::vector<std::byte> bytes(disk ? disk->properties().size : 0);
    if (disk) {
      EXPECT_TRUE(succeeds(wait(read_bytes(*disk, 0, bytes))));
    }
    return bytes;
  }

  struct Output {
    int status;
    std::string text;
  };
  /// Runs a command in the directory; both its outputs.
  Output shell(const std::string& command) {
    Output output{-1, {}};
    const auto whole = "cd '" + directory_.string() + "' && { " + command + " ; } 2>&1";
    if (FILE* pipe = ::popen(whole.c_str(), "r")) {
      char buffer[4096];
      while (const auto count = std::fread(buffer, 1, sizeof buffer, pipe)) {
        output.text.append(buffer, count);
      }
      const int status = ::pclose(pipe);
      output.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    }
    return output;
  }
  ::testing::AssertionResult runs(const std::string& command) {
    const auto output = shell(command);
    return output.status == 0 ? ::testing::AssertionSuccess()
                              : ::testing::AssertionFailure() << command << ": " << output.text;
  }

  std::filesystem::path directory_;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<HostStore> store_;
};

}  // namespace bulkhead::disk
