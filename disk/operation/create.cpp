// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/create.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "disk/operation/locator.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

/// An option that the format has no place for is not dropped silently.
Result<> check_options(const NewImage& image, Format format) {
  if (image.azure && format != Format::vhd) {
    return fail("Azure's rule is for VHD images");
  }
  if (format == Format::raw && image.block != 0) {
    return fail("a raw image has no blocks");
  }
  if (format != Format::vhdx && (image.logical_sector % 512 != 0 || image.logical_sector > 512 ||
                                 image.physical_sector % 512 != 0 || image.physical_sector > 512)) {
    return fail(fmt::format("a {} image has sectors of 512 bytes", name_of(format)));
  }
  return {};
}

Task<Result<>> write_raw(File& file, const NewImage& image) {
  auto done = co_await file.resize(image.size);
  if (done && image.kind == Kind::fixed) {  // its space is taken at once
    done = co_await file.zero(0, image.size, File::Zeroing::keep_space);
  }
  if (done) {
    done = co_await file.flush();
  }
  co_return done;
}

Task<Result<>> write_image(ImageStore& store, File& file, const NewImage& image, Format format, const Disk* parent) {
  if (format == Format::raw) {
    co_return co_await write_raw(file, image);
  }
  if (format == Format::vhd) {
    vhd::CreateOptions options{.size = image.size, .kind = image.kind, .block_size = image.block, .azure = image.azure};
    if (parent != nullptr) {
      options.parent = vhd_locator(store, image.path, image.parent, *parent);
    }
    co_return co_await vhd::create(file, std::move(options));
  }
  vhdx::CreateOptions options{.size = image.size, .kind = image.kind, .block_size = image.block};
  options.logical_sector = image.logical_sector != 0 ? image.logical_sector : 512;
  options.physical_sector = image.physical_sector != 0 ? image.physical_sector : 4096;
  if (parent != nullptr) {
    options.parent = vhdx_locator(store, image.path, image.parent, *parent);
  }
  co_return co_await vhdx::create(file, std::move(options));
}

}  // namespace

Task<Result<>> create_image(ImageStore& store, NewImage image) {
  const auto format = image.format.value_or(format_of_name(image.path));
  if (auto checked = check_options(image, format); !checked) {
    co_return std::unexpected(checked.error().within(fmt::format("cannot make '{}'", image.path)));
  }
  std::unique_ptr<Disk> parent;
  if (!image.parent.empty()) {
    if (format == Format::raw) {
      co_return fail(fmt::format("cannot make '{}': a raw image cannot have a parent", image.path));
    }
    image.kind = Kind::differencing;
    OpenOptions options;
    options.format = format;
    auto opened = co_await open_disk(store, image.parent, options);
    if (!opened) {
      co_return std::unexpected(opened.error().within("cannot use the parent"));
    }
    parent = std::move(*opened);
    if (image.size == 0) {
      image.size = parent->properties().size;
    }
    if (image.size < parent->properties().size) {
      co_return fail(fmt::format("cannot make '{}' smaller than its parent", image.path));
    }
    if (image.logical_sector == 0) {
      image.logical_sector = parent->properties().logical_sector;
    }
    if (image.logical_sector != parent->properties().logical_sector) {
      co_return fail(fmt::format("'{}' must have its parent's logical sectors of {} bytes", image.path,
                                 parent->properties().logical_sector));
    }
  } else if (image.kind == Kind::differencing) {
    co_return fail("a differencing image needs a parent");
  }
  if (image.size == 0) {
    co_return fail(fmt::format("cannot make '{}': it needs a size", image.path));
  }
  auto file = store.create(image.path);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  auto done = co_await write_image(store, **file, image, format, parent.get());
  if (!done) {
    file->reset();
    if (auto removed = store.remove(image.path); !removed) {
      done = std::unexpected(done.error().within(removed.error().message()));
    }
    co_return std::unexpected(done.error().within(fmt::format("cannot make '{}'", image.path)));
  }
  co_return done;
}

}  // namespace bulkhead::disk
