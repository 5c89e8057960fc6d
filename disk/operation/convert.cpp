// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/convert.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "disk/byte_order.hpp"
#include "disk/crc32c.hpp"
#include "disk/operation/copy.hpp"

namespace bulkhead::disk {
namespace {

/// One sector, so that it is written whole.
struct State {
  std::array<char, 16> signature;
  LittleEndian<std::uint32_t> checksum;  // of what follows
  LittleEndian<std::uint32_t> work;      // of the description of the work
  LittleEndian<std::uint64_t> done;
  std::array<std::byte, 480> reserved;
};
static_assert(sizeof(State) == 512);
constexpr std::array<char, 16> kSignature = {'b', 'u', 'l', 'k', 'h', 'e', 'a', 'd',
                                             ' ', 'c', 'o', 'n', 'v', 'e', 'r', 't'};

std::uint32_t checksum_of(const State& state) { return crc32c(bytes_of(state).subspan(20)); }

/// What must be the same for a half-finished image to be worth going on with.
std::uint32_t describe(ImageStore& store, const Conversion& conversion, const Disk& source) {
  std::string text =
      fmt::format("{} {} {} {} {} {} {} {} {}", conversion.source, source.properties().size, conversion.target.path,
                  static_cast<int>(conversion.target.format.value_or(format_of_name(conversion.target.path))),
                  static_cast<int>(conversion.target.kind), conversion.target.block, conversion.target.logical_sector,
                  conversion.target.physical_sector, conversion.target.azure);
  for (const Disk* layer = &source; layer != nullptr; layer = layer->parent()) {
    text += " " + store.fingerprint(layer->name());
  }
  return crc32c(std::as_bytes(std::span(text)));
}

Task<Result<>> write_state(File& file, std::uint32_t work, std::uint64_t done) {
  State state{};
  state.signature = kSignature;
  state.work = work;
  state.done = done;
  state.checksum = checksum_of(state);
  auto written = co_await write_bytes(file, 0, bytes_of(state));
  if (written) {
    written = co_await file.flush();
  }
  co_return written;
}

/// How far the work that `state` tells of came; nothing if it is other work.
Task<std::optional<std::uint64_t>> read_state(ImageStore& store, std::string path, std::uint32_t work) {
  auto file = store.open(path, ImageStore::Access::read);
  if (!file) {
    co_return std::nullopt;
  }
  State state{};
  auto read = co_await read_bytes(**file, 0, writable_bytes_of(state));
  if (!read || state.signature != kSignature || state.checksum != checksum_of(state) || state.work != work) {
    co_return std::nullopt;
  }
  co_return std::uint64_t{state.done};
}

Result<> remove_if_there(ImageStore& store, const std::string& path) {
  return store.exists(path) ? store.remove(path) : Result<>();
}

/// The image to go on with, and from where; made anew unless there is one of this very work.
struct Target {
  std::unique_ptr<Disk> disk;
  std::unique_ptr<File> state;
  std::uint64_t done = 0;
};
Task<Result<Target>> prepare(ImageStore& store, NewImage image, std::uint32_t work) {
  const auto state_path = image.path + ".state";
  Target target;
  auto done = co_await read_state(store, state_path, work);
  OpenOptions options;
  options.access = ImageStore::Access::write;
  options.format = image.format;
  if (done && store.exists(image.path)) {
    auto opened = co_await open_disk(store, image.path, options);
    if (opened) {
      target.disk = std::move(*opened);
      target.done = *done;
    }
  }
  if (!target.disk) {
    Result<> ready;
    for (const auto& path : {state_path, image.path}) {
      // Opening for writing refuses while another conversion is at work on it.
      if (ready && store.exists(path)) {
        auto locked = store.open(path, ImageStore::Access::write);
        ready = locked ? remove_if_there(store, path) : std::unexpected(locked.error());
      }
    }
    if (ready) {
      ready = co_await create_image(store, image);
    }
    if (!ready) {
      co_return std::unexpected(ready.error());
    }
    auto opened = co_await open_disk(store, image.path, options);
    if (!opened) {
      co_return std::unexpected(opened.error());
    }
    target.disk = std::move(*opened);
  }
  auto state = store.exists(state_path) ? store.open(state_path, ImageStore::Access::write) : store.create(state_path);
  if (!state) {
    co_return std::unexpected(state.error());
  }
  target.state = std::move(*state);
  co_return target;
}

}  // namespace

Task<Result<>> convert(ImageStore& store, Conversion conversion) {
  if (store.exists(conversion.target.path)) {
    co_return fail(fmt::format("cannot make '{}': it exists", conversion.target.path));
  }
  OpenOptions options;
  options.format = conversion.source_format;
  auto source = co_await open_disk(store, conversion.source, options);
  if (!source) {
    co_return std::unexpected(source.error());
  }
  const auto work = describe(store, conversion, **source);
  auto image = conversion.target;
  image.format = image.format.value_or(format_of_name(image.path));
  image.path += ".partial";
  // The target may have larger sectors than the source; what is behind the source's end is zero.
  const std::uint64_t sector = image.logical_sector != 0 ? image.logical_sector : 512;
  image.size = align_up((*source)->properties().size, std::max<std::uint64_t>(sector, image.azure ? kMiB : 1));
  auto target = co_await prepare(store, image, work);
  if (!target) {
    co_return std::unexpected(target.error());
  }
  auto done = co_await write_state(*target->state, work, target->done);
  CopyOptions copying;
  copying.start = target->done;
  copying.end = (*source)->properties().size;
  copying.checkpoint = conversion.checkpoint;
  copying.progress = conversion.progress;
  File& state = *target->state;
  copying.flushed = [&state, work](std::uint64_t at) { return write_state(state, work, at); };
  if (done) {
    done = co_await copy(**source, *target->disk, std::move(copying));
  }
  if (done) {
    done = co_await target->disk->close();
  }
  if (!done) {
    co_return std::unexpected(done.error().within(fmt::format("cannot convert '{}'", conversion.source)));
  }
  target->disk.reset();
  done = store.rename(image.path, conversion.target.path);
  target->state.reset();
  if (done) {
    done = remove_if_there(store, image.path + ".state");
  }
  co_return done;
}

}  // namespace bulkhead::disk
