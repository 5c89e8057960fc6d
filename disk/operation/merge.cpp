// SPDX-License-Identifier: Apache-2.0
//
// Merging is safe at every moment because the child hides what changes below it: whatever of its content has reached
// the parent already, reading the child gives the same. Only the linkage needs care: the parent's content gets a new
// identity with its first change, so the child learns it beforehand, as a second one that it accepts.
#include <fmt/format.h>

#include "disk/operation/change.hpp"
#include "disk/operation/copy.hpp"
#include "disk/raw/raw_disk.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

/// Child first, durable; then the parent.
Task<Result<>> agree_on_identity(vhdx::VhdxDisk& child, vhdx::VhdxDisk& parent) {
  const auto announced = Guid::parse(child.metadata().parent->value("parent_linkage2").value_or(""));
  if (announced && *announced == parent.header().data_write_guid) {
    parent.keep_data_write_guid();  // an interrupted merge goes on
    co_return Result<>();
  }
  const auto guid = Guid::random();
  auto metadata = child.metadata();
  metadata.parent->values["parent_linkage2"] = "{" + guid.text() + "}";
  auto done = co_await child.set_metadata(std::move(metadata));
  if (done) {
    done = co_await child.flush();
  }
  if (done) {
    done = co_await parent.set_data_write_guid(guid);
  }
  co_return done;
}

Task<Result<>> fit_size(Disk& parent, std::uint64_t size) {
  if (parent.properties().size == size) {
    co_return Result<>();
  }
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(&parent)) {
    co_return co_await image->resize(size);
  }
  co_return co_await dynamic_cast<vhd::VhdDisk&>(parent).resize(size);
}

}  // namespace

Task<Result<>> merge_image(ImageStore& store, std::string path, std::optional<Format> format, MergedChild merged,
                           Progress progress) {
  OpenOptions alone;
  alone.access = ImageStore::Access::write;
  alone.format = format;
  alone.with_parents = false;
  auto child = co_await open_disk(store, path, alone);
  if (!child) {
    co_return std::unexpected(child.error());
  }
  if ((*child)->properties().kind != Kind::differencing) {
    co_return fail(fmt::format("cannot merge '{}': it has no parent", path));
  }
  auto parent = co_await open_parent_of(store, path, **child, alone);
  if (!parent) {
    co_return std::unexpected(parent.error());
  }
  if (parent->disk->properties().logical_sector != (*child)->properties().logical_sector) {
    co_return fail(fmt::format("cannot merge '{}': its parent has other logical sectors", path));
  }
  const auto size = (*child)->properties().size;
  Result<> done;
  if (parent->disk->properties().size < size) {  // growing, it must know what its own parent shows behind its end
    done = co_await open_parents_of(store, parent->path, *parent->disk);
  }
  if (!done) {
    co_return done;
  }
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(child->get())) {
    done = co_await agree_on_identity(*image, dynamic_cast<vhdx::VhdxDisk&>(*parent->disk));
  }
  if (done && parent->disk->properties().size < size) {
    done = co_await fit_size(*parent->disk, size);
  }
  CopyOptions copying;
  copying.layer = CopyLayer::own;
  copying.end = size;
  copying.progress = std::move(progress);
  if (done) {
    done = co_await copy(**child, *parent->disk, std::move(copying));
  }
  if (done) {
    done = co_await fit_size(*parent->disk, size);  // a child that was made smaller makes its parent so
  }
  if (done) {
    done = co_await parent->disk->close();
  }
  if (done && merged == MergedChild::keep) {
    done = co_await (*child)->close();
  }
  if (!done) {
    co_return std::unexpected(done.error().within(fmt::format("cannot merge '{}'", path)));
  }
  if (merged == MergedChild::remove) {
    child->reset();
    done = store.remove(path);
  }
  co_return done;
}

}  // namespace bulkhead::disk
