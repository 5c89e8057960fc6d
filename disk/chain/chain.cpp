// SPDX-License-Identifier: Apache-2.0
#include "disk/chain/chain.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "disk/raw/raw_disk.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

/// Hyper-V allows far fewer; a chain that is longer is a loop.
constexpr int kDeepest = 64;

const vhdx::VhdxDisk* as_vhdx(const Disk& disk) { return dynamic_cast<const vhdx::VhdxDisk*>(&disk); }
const vhd::VhdDisk* as_vhd(const Disk& disk) { return dynamic_cast<const vhd::VhdDisk*>(&disk); }

/// A Windows path as a path of the host, if it can be one: the prefix "\\?\" goes, and a drive makes it useless.
std::string host_path(std::string path) {
  std::ranges::replace(path, '\\', '/');
  if (path.starts_with("//?/")) {
    path.erase(0, 4);
  }
  const bool drive = path.size() >= 2 && path[1] == ':';
  return drive || path.starts_with("//") || path.starts_with("Volume{") ? std::string() : path;
}

std::string last_part(const std::string& path) {
  const auto slash = path.find_last_of("/\\");
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

/// The relative path first, then the others, then whatever has the parent's name in the child's own directory.
std::vector<std::string> candidates(const std::vector<std::string>& paths) {
  std::vector<std::string> result;
  const auto add = [&result](const std::string& path) {
    if (!path.empty() && path != "." && path != ".." && std::ranges::find(result, path) == result.end()) {
      result.push_back(path);
    }
  };
  for (const auto& path : paths) {
    add(host_path(path));
  }
  for (const auto& path : paths) {
    add(last_part(path));
  }
  return result;
}

template <typename T>
Result<std::unique_ptr<Disk>> as_disk(Result<std::unique_ptr<T>> disk) {
  if (!disk) {
    return std::unexpected(disk.error());
  }
  return std::unique_ptr<Disk>(std::move(*disk));
}

Task<Result<std::unique_ptr<Disk>>> open_image(std::unique_ptr<File> file, Format format) {
  switch (format) {
    case Format::vhdx: co_return as_disk(co_await vhdx::VhdxDisk::open(std::move(file)));
    case Format::vhd: co_return as_disk(co_await vhd::VhdDisk::open(std::move(file)));
    case Format::raw: break;
  }
  const bool cd = file->name().ends_with(".iso") || file->name().ends_with(".ISO");
  co_return as_disk(RawDisk::open(std::move(file), cd ? 2048 : 512));
}

}  // namespace

Format format_of_name(const std::string& path) {
  std::string lower(path);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  if (lower.ends_with(".vhdx") || lower.ends_with(".avhdx")) {
    return Format::vhdx;
  }
  return lower.ends_with(".vhd") || lower.ends_with(".avhd") ? Format::vhd : Format::raw;
}

std::optional<ParentReference> parent_reference(const Disk& disk) {
  ParentReference reference;
  if (disk.properties().kind != Kind::differencing) {
    return std::nullopt;
  }
  std::vector<std::string> paths;
  if (const auto* image = as_vhdx(disk)) {
    for (const char* key : {"relative_path", "volume_path", "absolute_win32_path"}) {
      paths.push_back(image->metadata().parent->value(key).value_or(""));
    }
    reference.linkage = Guid::parse(image->metadata().parent->value("parent_linkage").value_or("")).value_or(Guid{});
  } else if (const auto* old = as_vhd(disk)) {
    paths = {old->locator()->relative_path, old->locator()->absolute_path, last_part(old->locator()->name)};
    reference.linkage = old->locator()->identity;
  }
  reference.paths = candidates(paths);
  return reference;
}

bool links_to(const Disk& child, const Disk& parent) {
  if (const auto* image = as_vhdx(child)) {
    const auto* base = as_vhdx(parent);
    return base != nullptr && image->metadata().parent &&
           image->metadata().parent->links_to(base->header().data_write_guid);
  }
  const auto* image = as_vhd(child);
  return image != nullptr && image->locator() && image->locator()->identity == parent.properties().identity;
}

Task<Result<OpenedParent>> open_parent_of(ImageStore& store, const std::string& path, const Disk& child,
                                          OpenOptions options) {
  const auto reference = parent_reference(child);
  if (!reference) {
    co_return fail(fmt::format("'{}' has no parent", path));
  }
  std::optional<Error> problem;
  for (const auto& candidate : reference->paths) {
    auto opened = store.open_parent(path, candidate, options.access);
    if (!opened) {
      problem = problem.value_or(opened.error().within(fmt::format("cannot open the parent of '{}'", path)));
      continue;
    }
    auto parent = co_await open_image(std::move(opened->file), child.properties().format);
    if (parent && links_to(child, **parent)) {
      co_return OpenedParent{std::move(*parent), opened->path};
    }
    // Another file of that name; the right one may be where the next path says.
    problem = parent ? Error(fmt::format("'{}' is not the parent of '{}', or it has changed since", opened->path, path))
                     : parent.error().within(fmt::format("cannot open the parent of '{}'", path));
  }
  if (!problem) {
    co_return fail(fmt::format("cannot open the parent of '{}': it does not say where that is", path));
  }
  co_return std::unexpected(*problem);
}

Task<Result<>> open_parents_of(ImageStore& store, std::string path, Disk& disk) {
  const auto top = path;
  Disk* child = &disk;
  for (int depth = 0; child->properties().kind == Kind::differencing; ++depth) {
    if (depth == kDeepest) {
      co_return fail(fmt::format("'{}' has more than {} parents, or is among its own", top, kDeepest));
    }
    auto parent = co_await open_parent_of(store, path, *child, {});
    if (!parent) {
      co_return std::unexpected(parent.error());
    }
    path = parent->path;
    auto* next = parent->disk.get();
    dynamic_cast<BlockDisk&>(*child).set_parent(std::move(parent->disk));
    child = next;
  }
  co_return Result<>();
}

Task<Result<std::unique_ptr<Disk>>> open_disk(ImageStore& store, std::string path, OpenOptions options) {
  auto file = store.open(path, options.access);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  auto disk = co_await open_image(std::move(*file), options.format.value_or(format_of_name(path)));
  if (!disk || !options.with_parents) {
    co_return disk;
  }
  auto below = co_await open_parents_of(store, path, **disk);
  if (!below) {
    co_return std::unexpected(below.error());
  }
  co_return disk;
}

}  // namespace bulkhead::disk
