// SPDX-License-Identifier: Apache-2.0
#include "worker/image_file.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace bulkhead::worker {

Result<ImageFile> ImageFile::map(const engine::FileDescriptor& file, std::string_view what) {
  struct stat status{};
  if (fstat(file.get(), &status) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot read {}", what), errno));
  }
  if (!S_ISREG(status.st_mode)) return fail(fmt::format("{} is not a regular file", what));
  if (status.st_size == 0) return fail(fmt::format("{} is an empty file", what));
  const auto size = static_cast<std::size_t>(status.st_size);
  void* start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (start == MAP_FAILED) return std::unexpected(Error::from_errno(fmt::format("cannot map {}", what), errno));
  ImageFile image;
  image.file_ = file.get();
  image.bytes_ = {static_cast<std::uint8_t*>(start), size};
  std::error_code unknown;
  image.path_ = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", file.get()), unknown).string();
  if (unknown) image.path_ = what;
  return image;
}

bool ImageFile::holds(std::span<const std::uint8_t> part) const {
  const auto offset = reinterpret_cast<std::uintptr_t>(part.data()) - reinterpret_cast<std::uintptr_t>(bytes_.data());
  return offset < bytes_.size();
}

Result<> ImageFile::read(std::span<const std::uint8_t> part, std::span<std::uint8_t> to) const {
  auto offset = part.data() - bytes_.data();
  while (!to.empty()) {
    const auto count = pread(file_, to.data(), to.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(Error::from_errno("it cannot be read", errno));
    if (count == 0) return fail("it has become shorter while it was read");
    to = to.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
  return {};
}

ImageFile::~ImageFile() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace bulkhead::worker
