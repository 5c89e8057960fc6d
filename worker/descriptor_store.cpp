// SPDX-License-Identifier: Apache-2.0
#include "worker/descriptor_store.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::worker {

std::unexpected<Error> DescriptorStore::refuse(const std::string& path) {
  return fail(fmt::format("'{}' is not among the files that this machine was given", path));
}

Result<std::unique_ptr<disk::File>> DescriptorStore::adopt(Entry& entry, Access access) {
  if (!entry.file.is_open()) return fail(fmt::format("'{}' is used twice", entry.path));
  const auto mode = access == Access::write ? disk::HostFile::Access::write : disk::HostFile::Access::read;
  auto file = disk::HostFile::adopt(ring_, entry.file.release(), entry.path, mode);
  if (!file) return std::unexpected(file.error());
  return std::unique_ptr<disk::File>(std::move(*file));
}

Result<std::unique_ptr<disk::File>> DescriptorStore::open(const std::string& path, Access access) {
  const auto found = std::ranges::find(entries_, path, &Entry::path);
  if (found == entries_.end()) return refuse(path);
  return adopt(*found, access);
}

Result<disk::ImageStore::Opened> DescriptorStore::open_parent(const std::string& child, const std::string& reference,
                                                              Access access) {
  const auto found = std::ranges::find(entries_, child, &Entry::path);
  if (found == entries_.end() || std::next(found) == entries_.end()) return refuse(reference);
  Entry& parent = *std::next(found);
  auto file = adopt(parent, access);
  if (!file) return std::unexpected(file.error());
  return Opened{std::move(*file), parent.path};
}

bool DescriptorStore::exists(const std::string& path) {
  return std::ranges::find(entries_, path, &Entry::path) != entries_.end();
}

}  // namespace bulkhead::worker
