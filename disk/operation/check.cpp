// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/check.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "disk/byte_order.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

using Severity = Finding::Severity;

/// A file that is larger has a table that no disk needs; the map of it would not fit into memory.
constexpr std::uint64_t kLargestFile = 256 * kTiB;
constexpr std::size_t kMostFindings = 1000;

/// Which parts of a file something refers to, in units.
class FileMap {
 public:
  FileMap(std::uint64_t size, std::uint64_t unit) : unit_(unit), used_((size + unit - 1) / unit) {}

  /// False if a part of it is taken already.
  bool take(std::uint64_t offset, std::uint64_t length) {
    const auto first = offset / unit_;
    const auto end = std::min<std::uint64_t>((offset + length + unit_ - 1) / unit_, used_.size());
    bool free = true;
    for (auto i = first; i < end; ++i) {
      free = free && !used_[i];
      used_[i] = true;
    }
    return free;
  }
  std::uint64_t unused() const { return static_cast<std::uint64_t>(std::ranges::count(used_, false)) * unit_; }

 private:
  std::uint64_t unit_;
  std::vector<bool> used_;
};

class Checker {
 public:
  explicit Checker(Repairing repairing) : repairing_(repairing == Repairing::yes) {}

  void add(Severity severity, std::string text, bool repaired) {
    report_.unrepaired += severity == Severity::note || repaired ? 0 : 1;
    if (report_.findings.size() < kMostFindings) {
      report_.findings.push_back({severity, std::move(text), repaired});
    } else {
      ++report_.omitted;
    }
  }

  Task<Result<CheckReport>> vhdx(vhdx::VhdxDisk& disk) {
    if (disk.file().size() > kLargestFile) {
      co_return fail(fmt::format("'{}' is larger than any VHDX needs to be", disk.name()));
    }
    bool headers = disk.valid_headers() < 2;
    if (headers) {
      add(Severity::error, "one of the two headers is not valid", repairing_);
    }
    if (disk.regions().valid_copies < 2) {
      add(Severity::error, "one of the two region tables is not valid", repairing_);
      headers = true;
    }
    if (disk.was_recovered()) {
      add(Severity::note, "the image was not closed; its log was replayed", repairing_);
    }
    if (headers && repairing_) {
      auto written = co_await disk.rewrite_headers();
      if (!written) {
        co_return std::unexpected(written.error());
      }
    }
    FileMap map(disk.file().size(), kMiB);
    map.take(0, kMiB);
    map.take(disk.header().log_offset, disk.header().log_length);
    for (const auto& entry : disk.regions().entries) {
      if (!map.take(entry.file_offset, entry.length)) {
        add(Severity::error, fmt::format("region {} overlaps another one", entry.guid.text()), false);
      }
    }
    auto done = co_await vhdx_table(disk, map);
    if (!done) {
      co_return std::unexpected(done.error());
    }
    report_.unused = map.unused();
    co_return std::move(report_);
  }

  Task<Result<CheckReport>> vhd(vhd::VhdDisk& disk) {
    if (disk.footer_state() == vhd::FooterState::damaged) {
      add(Severity::error, "the footer's copy at the beginning is not valid", repairing_);
    } else if (disk.footer_state() == vhd::FooterState::not_put_away) {
      add(Severity::note, "the image was not put away in order: its footer and the copy of it differ", repairing_);
    }
    if (disk.footer_state() != vhd::FooterState::good && repairing_) {
      auto written = co_await disk.rewrite_footers();
      if (!written) {
        co_return std::unexpected(written.error());
      }
    }
    if (disk.properties().kind == Kind::fixed) {
      co_return std::move(report_);
    }
    report_.blocks = disk.blocks();
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;  // where, which block
    const auto room = disk.file().size() / disk.place_length() + 1;
    for (std::uint64_t block = 0; block < disk.blocks();) {
      const auto absent = co_await disk.absent_from(block);
      if (absent && absent->blocks > 0) {
        block += absent->blocks;
        continue;
      }
      auto place = co_await disk.block_place(block);
      if (!place) {
        add(Severity::lost, place.error().message(), repairing_);
        auto reset = repairing_ ? co_await disk.reset_entry(block) : Result<>();
        if (!reset) {
          co_return std::unexpected(reset.error());
        }
      } else if (*place) {
        ++report_.allocated;
        if (places.size() <= room) {  // more of them overlap for certain, which the sorted ones show
          places.push_back({**place, block});
        }
      }
      ++block;
    }
    std::ranges::sort(places);
    std::uint64_t taken = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
      taken += disk.place_length();
      if (i > 0 && places[i - 1].first + disk.place_length() > places[i].first) {
        add(Severity::lost, fmt::format("blocks {} and {} overlap", places[i - 1].second, places[i].second), false);
      }
    }
    report_.unused = disk.file().size() - std::min(disk.file().size(), taken);
    co_return std::move(report_);
  }

 private:
  /// The sector bitmaps first: blocks need them.
  Task<Result<>> vhdx_table(vhdx::VhdxDisk& disk, FileMap& map) {
    const auto& geometry = disk.geometry();
    report_.blocks = geometry.blocks;
    const auto chunks = (geometry.blocks + geometry.chunk_ratio - 1) / geometry.chunk_ratio;
    Result<> done;
    for (std::uint64_t chunk = 0; done && disk.metadata().has_parent && chunk < chunks; ++chunk) {
      done = co_await vhdx_entry(disk, co_await disk.bitmap_entry(chunk), geometry.bitmap_entry(chunk), kMiB, map);
    }
    bool has_bitmap = false;
    for (std::uint64_t block = 0; done && block < geometry.blocks;) {
      if (disk.metadata().has_parent && block % geometry.chunk_ratio == 0) {
        const auto bitmap = co_await disk.bitmap_entry(geometry.chunk_of(block));
        has_bitmap = bitmap && bitmap->has_place();
      }
      auto entry = co_await disk.payload_entry(block);
      if (entry && entry->state == vhdx::PayloadState::partially_present && !has_bitmap) {
        entry = fail(fmt::format("block {} needs a sector bitmap, and there is none", block));
      }
      if (entry && !entry->has_place()) {
        const auto absent = co_await disk.absent_from(block);
        block += absent ? std::max<std::uint64_t>(absent->blocks, 1) : 1;
        continue;
      }
      report_.allocated += entry ? 1 : 0;
      done = co_await vhdx_entry(disk, std::move(entry), geometry.payload_entry(block), geometry.block_size, map);
      ++block;
    }
    co_return done;
  }

  Task<Result<>> vhdx_entry(vhdx::VhdxDisk& disk, Result<vhdx::BatEntry> entry, std::uint64_t index,
                            std::uint64_t length, FileMap& map) {
    if (!entry) {
      add(Severity::lost, entry.error().message(), repairing_);
      co_return repairing_ ? co_await disk.reset_entry(index) : Result<>();
    }
    if (entry->has_place() && !map.take(entry->offset, length)) {
      add(Severity::lost, fmt::format("BAT entry {} overlaps something else at {}", index, entry->offset), false);
    }
    co_return Result<>();
  }

  bool repairing_;
  CheckReport report_;
};

}  // namespace

Task<Result<CheckReport>> check_image(ImageStore& store, std::string path, std::optional<Format> format,
                                      Repairing repairing) {
  OpenOptions options;
  options.access = repairing == Repairing::yes ? ImageStore::Access::write : ImageStore::Access::read;
  options.format = format;
  options.with_parents = false;
  auto opened = co_await open_disk(store, path, options);
  if (!opened) {
    co_return std::unexpected(opened.error());
  }
  auto& disk = **opened;
  Checker checker(repairing);
  Result<CheckReport> report;
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(&disk)) {
    report = co_await checker.vhdx(*image);
  } else if (auto* old = dynamic_cast<vhd::VhdDisk*>(&disk)) {
    report = co_await checker.vhd(*old);
  }
  if (report && repairing == Repairing::yes) {
    auto closed = co_await disk.close();
    if (!closed) {
      co_return std::unexpected(closed.error());
    }
  }
  co_return report;
}

}  // namespace bulkhead::disk
