// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/locator.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::disk {
namespace {

std::string with_backslashes(std::string path) {
  std::ranges::replace(path, '/', '\\');
  return path;
}

std::string relative(ImageStore& store, const std::string& child, const std::string& parent) {
  const auto reference = with_backslashes(store.relative_reference(child, parent));
  return reference.starts_with("..") ? reference : ".\\" + reference;
}

std::string braced(const Guid& guid) { return "{" + guid.text() + "}"; }

}  // namespace

vhdx::ParentLocator vhdx_locator(ImageStore& store, const std::string& child, const std::string& parent_path,
                                 const Disk& parent) {
  vhdx::ParentLocator locator;
  const auto& image = dynamic_cast<const vhdx::VhdxDisk&>(parent);
  locator.values["parent_linkage"] = braced(image.header().data_write_guid);
  locator.values["relative_path"] = relative(store, child, parent_path);
  locator.values["absolute_win32_path"] = with_backslashes(store.absolute_reference(parent_path));
  return locator;
}

vhd::ParentLocator vhd_locator(ImageStore& store, const std::string& child, const std::string& parent_path,
                               const Disk& parent) {
  vhd::ParentLocator locator;
  const auto& image = dynamic_cast<const vhd::VhdDisk&>(parent);
  locator.identity = image.properties().identity;
  locator.timestamp = image.footer().timestamp;
  locator.relative_path = relative(store, child, parent_path);
  locator.absolute_path = with_backslashes(store.absolute_reference(parent_path));
  locator.name = locator.absolute_path;
  return locator;
}

Task<Result<>> set_parent_locator(ImageStore& store, const std::string& path, Disk& child,
                                  const std::string& parent_path, const Disk& parent) {
  if (child.properties().format != parent.properties().format) {
    co_return fail(fmt::format("'{}' and '{}' are of different formats", path, parent_path));
  }
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(&child)) {
    auto metadata = image->metadata();
    metadata.parent = vhdx_locator(store, path, parent_path, parent);
    co_return co_await image->set_metadata(std::move(metadata));
  }
  if (auto* image = dynamic_cast<vhd::VhdDisk*>(&child)) {
    co_return co_await image->set_locator(vhd_locator(store, path, parent_path, parent));
  }
  co_return fail(fmt::format("'{}' cannot have a parent", path));
}

}  // namespace bulkhead::disk
