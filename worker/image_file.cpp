// SPDX-License-Identifier: Apache-2.0
#include "worker/image_file.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

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
  madvise(start, size, MADV_SEQUENTIAL);
  ImageFile image;
  image.bytes_ = {static_cast<std::uint8_t*>(start), size};
  std::error_code unknown;
  image.path_ = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", file.get()), unknown).string();
  if (unknown) image.path_ = what;
  return image;
}

void ImageFile::let_go(std::span<const std::uint8_t> part) {
  // Whole pages only: what is beside the part may still be wanted. They would come again from the file.
  constexpr std::uintptr_t kPageMask = 4095;
  const auto start = (reinterpret_cast<std::uintptr_t>(part.data()) + kPageMask) & ~kPageMask;
  const auto end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) & ~kPageMask;
  if (start < end) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
}

ImageFile::~ImageFile() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace bulkhead::worker
