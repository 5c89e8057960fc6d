// SPDX-License-Identifier: Apache-2.0
#include "disk/chain/image_store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace bulkhead::disk {
namespace {

namespace fs = std::filesystem;

/// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) {
      ::close(number_);
    }
  }
  int number() const { return number_; }

 private:
  int number_;
};

fs::path directory_of(const fs::path& path) {
  std::error_code ignored;
  const auto directory = fs::weakly_canonical(fs::absolute(path, ignored).parent_path(), ignored);
  return directory.empty() ? fs::path("/") : directory;
}

/// `path` as seen from `directory`, if it lies there or below.
std::optional<fs::path> beneath(const fs::path& directory, const fs::path& path) {
  auto relative = path.lexically_relative(directory);
  if (relative.empty() || relative == "." || *relative.begin() == "..") {
    return std::nullopt;
  }
  return relative;
}

HostFile::Access host_access(ImageStore::Access access) {
  return access == ImageStore::Access::write ? HostFile::Access::write : HostFile::Access::read;
}

template <typename T>
Result<std::unique_ptr<File>> as_file(Result<std::unique_ptr<T>> file) {
  if (!file) {
    return std::unexpected(file.error());
  }
  return std::unique_ptr<File>(std::move(*file));
}

}  // namespace

Result<std::unique_ptr<File>> HostStore::open(const std::string& path, Access access) {
  return as_file(HostFile::open(ring_, path, host_access(access)));
}

Result<std::unique_ptr<File>> HostStore::create(const std::string& path) {
  return as_file(HostFile::create(ring_, path));
}

Result<ImageStore::Opened> HostStore::open_parent(const std::string& child, const std::string& reference,
                                                  Access access) {
  std::error_code ignored;
  const auto directory = directory_of(child);
  const auto wanted = (directory / reference).lexically_normal();
  std::vector<fs::path> allowed = {directory};
  for (const auto& extra : parent_directories_) {
    allowed.push_back(fs::weakly_canonical(fs::absolute(extra, ignored), ignored));
  }
  for (const auto& root : allowed) {
    const auto inside = beneath(root, wanted);
    if (!inside) {
      continue;
    }
    const Descriptor base(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (base.number() < 0) {
      continue;
    }
    // The kernel refuses symbolic links that lead out of the directory.
    struct open_how how{};
    how.flags =
        static_cast<std::uint64_t>((access == Access::write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    const auto opened = syscall(SYS_openat2, base.number(), inside->c_str(), &how, sizeof how);
    if (opened < 0) {
      return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'", wanted.string()), errno));
    }
    auto file = as_file(HostFile::adopt(ring_, static_cast<int>(opened), wanted.string(), host_access(access)));
    if (!file) {
      return std::unexpected(file.error());
    }
    return Opened{std::move(*file), wanted.string()};
  }
  return fail(fmt::format("'{}' lies outside of the directories in which parents may be", wanted.string()));
}

bool HostStore::exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Result<> HostStore::remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot remove '{}'", path), errno));
  }
  return {};
}

Result<> HostStore::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot rename '{}' to '{}'", from, to), errno));
  }
  const Descriptor directory(::open(directory_of(to).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.number() < 0 || ::fsync(directory.number()) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot flush the directory of '{}'", to), errno));
  }
  return {};
}

std::string HostStore::fingerprint(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    return {};
  }
  return fmt::format("{}:{}:{}:{}.{}", status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

std::string HostStore::relative_reference(const std::string& child, const std::string& parent) {
  const auto target = directory_of(parent) / fs::path(parent).filename();
  return target.lexically_relative(directory_of(child)).string();
}

std::string HostStore::absolute_reference(const std::string& parent) {
  return (directory_of(parent) / fs::path(parent).filename()).string();
}

}  // namespace bulkhead::disk
