// SPDX-License-Identifier: Apache-2.0
//
// Crash safety, proved by trying: whatever subset of what was not flushed reaches the file, whole or torn, the image
// opens, checks clean, and holds what was flushed.
//
// BULKHEAD_CRASH_ROUNDS in the environment sets how many workloads are tried; ctest's label "long" runs many.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "disk/file/recording_file.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/convert.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/memory_store.hpp"

namespace bulkhead::disk {
namespace {

constexpr std::uint64_t kSector = 512;

/// 0: a quick run, of one short workload.
std::uint64_t long_rounds() {
  const char* text = std::getenv("BULKHEAD_CRASH_ROUNDS");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 0;
}

CrashStates::Effort effort() {
  return long_rounds() == 0 ? CrashStates::Effort{.exhaustive = 2, .samples = 1}
                            : CrashStates::Effort{.exhaustive = 5, .samples = 4};
}

/// A sector whose every word is `tag`, so that one that is mixed from two is seen.
void fill(std::span<std::byte> sector, std::uint64_t tag) {
  for (std::size_t at = 0; at < sector.size(); at += 8) {
    std::memcpy(&sector[at], &tag, 8);
  }
}

std::optional<std::uint64_t> tag_of(std::span<const std::byte> sector) {
  std::uint64_t tag = 0;
  std::memcpy(&tag, sector.data(), 8);
  for (std::size_t at = 8; at < sector.size(); at += 8) {
    if (std::memcmp(&sector[at], &tag, 8) != 0) {
      return std::nullopt;
    }
  }
  return tag;
}

/// What each sector may hold: the value of the last step that is durable, or of any later one that had begun.
class History {
 public:
  explicit History(std::vector<std::uint64_t> start) : start_(std::move(start)), changes_(start_.size()) {}

  void write(std::uint64_t step, std::uint64_t sector, std::uint64_t tag) {
    changes_[sector].push_back({step, tag, false});
  }
  /// The sector becomes zero or stays as it is.
  void discard(std::uint64_t step, std::uint64_t sector) { changes_[sector].push_back({step, 0, true}); }

  bool allows(std::uint64_t sector, std::uint64_t tag, std::uint64_t durable, std::uint64_t begun) const {
    std::vector<std::uint64_t> allowed = {start_[sector]};
    for (const auto& change : changes_[sector]) {
      if (change.step > begun) {
        break;
      }
      if (change.step <= durable && !change.perhaps) {
        allowed.clear();
      }
      allowed.push_back(change.tag);
    }
    return std::ranges::find(allowed, tag) != allowed.end();
  }
  std::uint64_t sectors() const { return start_.size(); }

 private:
  struct Change {
    std::uint64_t step;
    std::uint64_t tag;
    bool perhaps;
  };
  std::vector<std::uint64_t> start_;
  std::vector<std::vector<Change>> changes_;
};

/// The kinds of image that are crashed. Each lies in the store as "disk", perhaps over "parent".
struct Setting {
  const char* name;
  Format format;
  Kind kind;
};
std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class Crash : public testing::TestWithParam<Setting> {
 protected:
  static constexpr std::uint64_t kSize = 4 * kMiB;

  std::string ending() const { return GetParam().format == Format::vhdx ? ".vhdx" : ".vhd"; }
  std::string path() const { return "disk" + ending(); }
  std::string parent_path() const { return "parent" + ending(); }

  /// Fills the store with an image whose sectors hold tags, and gives these.
  std::vector<std::uint64_t> make_images() {
    std::vector<std::uint64_t> tags(kSize / kSector);
    NewImage image{.path = path(), .format = std::nullopt, .kind = GetParam().kind, .size = kSize, .parent = {}};
    image.block = static_cast<std::uint32_t>(GetParam().format == Format::vhdx ? kMiB : 512 * kKiB);
    if (GetParam().kind == Kind::differencing) {
      auto parent = image;
      parent.path = parent_path();
      parent.kind = Kind::dynamic;
      EXPECT_TRUE(succeeds(now(create_image(store_, parent))));
      for (std::uint64_t sector = 0; sector < tags.size() / 2; ++sector) {
        tags[sector] = 0xbadc0de00000000 + sector;
      }
      write_tags(parent_path(), tags);
      image.parent = parent_path();
    }
    EXPECT_TRUE(succeeds(now(create_image(store_, image))));
    return tags;
  }

  void write_tags(const std::string& image, const std::vector<std::uint64_t>& tags) {
    OpenOptions options;
    options.access = ImageStore::Access::write;
    auto disk = now(open_disk(store_, image, options));
    ASSERT_TRUE(succeeds(disk));
    std::vector<std::byte> bytes(kSector);
    for (std::uint64_t sector = 0; sector < tags.size(); ++sector) {
      if (tags[sector] != 0) {
        fill(bytes, tags[sector]);
        ASSERT_TRUE(succeeds(now(write_bytes(**disk, sector * kSector, bytes))));
      }
    }
    ASSERT_TRUE(succeeds(now((*disk)->close())));
  }

  /// From now on what happens to the file is recorded.
  RecordingFile& record(const std::string& image) {
    auto& file = store_.file(image);
    start_[image] = {file.bytes(), file.size()};
    recordings_[&file] = std::make_unique<RecordingFile>(file);
    store_.set_wrap([this](MemoryFile& opened) -> std::unique_ptr<File> {
      const auto found = recordings_.find(&opened);
      return found == recordings_.end() ? std::make_unique<BorrowedFile>(opened)
                                        : std::make_unique<BorrowedFile>(*found->second);
    });
    return *recordings_[&file];
  }

  /// Tries every crash of the recorded file; the others stay as they are now.
  std::uint64_t crash(const std::string& image, CrashStates::Effort effort,
                      const std::function<void(const CrashStates::State&)>& check) {
    auto& file = store_.file(image);
    const auto operations = recordings_.at(&file)->operations();
    const auto& [bytes, size] = start_.at(image);
    CrashStates states(bytes, size, operations, effort);
    store_.set_wrap({});
    return states.each([&](const CrashStates::State& state) {
      store_.put(image, std::make_unique<MemoryFile>(image, state.bytes, state.size));
      check(state);
      if (HasFailure()) {
        ADD_FAILURE() << state.description;
        return false;
      }
      return true;
    });
  }

  /// The disk opens, is clean, and each sector holds what it may.
  void verify(const std::string& image, const History& history, std::uint64_t durable, std::uint64_t begun) {
    const auto report = now(check_image(store_, image, {}, Repairing::no));
    ASSERT_TRUE(succeeds(report));
    for (const auto& finding : report->findings) {
      // A VHD's footer may be missing after a crash: its copy is there, and writing brings it back.
      EXPECT_TRUE(finding.severity == Finding::Severity::note || GetParam().format == Format::vhd) << finding.text;
      EXPECT_NE(finding.severity, Finding::Severity::lost) << finding.text;
    }
    for (const auto access : {ImageStore::Access::read, ImageStore::Access::write}) {
      OpenOptions options;
      options.access = access;
      auto disk = now(open_disk(store_, image, options));
      ASSERT_TRUE(succeeds(disk));
      const auto bytes = content(**disk, 0, history.sectors() * kSector);
      for (std::uint64_t sector = 0; sector < history.sectors(); ++sector) {
        const auto tag = tag_of(std::span(bytes).subspan(sector * kSector, kSector));
        ASSERT_TRUE(tag.has_value()) << "sector " << sector << " is torn";
        ASSERT_TRUE(history.allows(sector, *tag, durable, begun))
            << "sector " << sector << " holds " << std::hex << *tag << std::dec << "; durable is step " << durable;
      }
    }
  }

  MemoryStore store_;
  std::map<MemoryFile*, std::unique_ptr<RecordingFile>> recordings_;
  std::map<std::string, std::pair<SparseBytes, std::uint64_t>> start_;
};

INSTANTIATE_TEST_SUITE_P(Images, Crash,
                         testing::Values(Setting{"VhdDynamic", Format::vhd, Kind::dynamic},
                                         Setting{"VhdDifferencing", Format::vhd, Kind::differencing},
                                         Setting{"VhdxDynamic", Format::vhdx, Kind::dynamic},
                                         Setting{"VhdxDifferencing", Format::vhdx, Kind::differencing}),
                         [](const auto& setting) { return setting.param.name; });

TEST_P(Crash, DuringWritesLosesNothingThatWasFlushed) {
  for (std::uint64_t round = 0; round < std::max<std::uint64_t>(long_rounds(), 1); ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    History history(make_images());
    auto& recording = record(path());
    OpenOptions options;
    options.access = ImageStore::Access::write;
    auto opened = now(open_disk(store_, path(), options));
    ASSERT_TRUE(succeeds(opened));
    auto& disk = **opened;
    std::mt19937_64 random(round);
    const std::uint64_t steps = long_rounds() == 0 ? 12 : 28;
    for (std::uint64_t step = 1; step <= steps; ++step) {
      recording.mark_begin(step);
      const auto block = disk.properties().block / kSector;
      const bool whole = random() % 4 == 0;
      const auto first = whole ? random() % (history.sectors() / block) * block : random() % history.sectors();
      const auto count = std::min(whole ? block : random() % 40 + 1, history.sectors() - first);
      const auto choice = random() % 10;
      if (choice < 5) {
        std::vector<std::byte> bytes(count * kSector);
        for (std::uint64_t i = 0; i < count; ++i) {
          const auto tag = (step << 32) | (first + i);
          fill(std::span(bytes).subspan(i * kSector, kSector), tag);
          history.write(step, first + i, tag);
        }
        ASSERT_TRUE(succeeds(now(write_bytes(disk, first * kSector, bytes))));
      } else if (choice < 7) {
        ASSERT_TRUE(succeeds(now(disk.zero(first * kSector, count * kSector))));
        for (std::uint64_t i = 0; i < count; ++i) {
          history.write(step, first + i, 0);
        }
      } else if (choice == 7) {
        ASSERT_TRUE(succeeds(now(disk.discard(first * kSector, count * kSector))));
        for (std::uint64_t i = 0; i < count; ++i) {
          history.discard(step, first + i);
        }
      } else {
        ASSERT_TRUE(succeeds(now(disk.flush())));
        recording.mark_durable(step);
      }
    }
    if (round % 2 == 0) {
      recording.mark_begin(steps + 1);
      ASSERT_TRUE(succeeds(now(disk.close())));
      recording.mark_durable(steps + 1);
    }
    opened->reset();
    const auto tried = crash(path(), {effort().exhaustive, effort().samples, round},
                             [&](const auto& state) { verify(path(), history, state.durable, state.begun); });
    EXPECT_GT(tried, 10u);
    if (HasFailure()) {
      return;
    }
    store_ = MemoryStore();
    recordings_.clear();
  }
}

/// An operation that keeps what the disk holds, crashed everywhere, then run again.
TEST_P(Crash, DuringCompactingKeepsTheDisk) {
  auto tags = make_images();
  for (std::uint64_t sector = 0; sector < tags.size(); ++sector) {
    tags[sector] = 0x1234000000000000 + sector;
  }
  write_tags(path(), tags);
  const auto hole = std::pair{std::uint64_t{1024}, std::uint64_t{5120}};
  {
    OpenOptions options;
    options.access = ImageStore::Access::write;
    auto disk = now(open_disk(store_, path(), options));
    ASSERT_TRUE(succeeds(disk));
    ASSERT_TRUE(succeeds(now((*disk)->zero(hole.first * kSector, (hole.second - hole.first) * kSector))));
    ASSERT_TRUE(succeeds(now((*disk)->close())));
    std::fill(tags.begin() + static_cast<std::ptrdiff_t>(hole.first),
              tags.begin() + static_cast<std::ptrdiff_t>(hole.second), 0);
  }
  const History history(tags);
  record(path());
  ASSERT_TRUE(succeeds(now(compact_image(store_, path(), {}, {}))));
  crash(path(), effort(), [&](const auto&) {
    verify(path(), history, 0, 0);
    ASSERT_TRUE(succeeds(now(compact_image(store_, path(), {}, {}))));
    verify(path(), history, 0, 0);
  });
}

TEST_P(Crash, DuringResizingKeepsTheDisk) {
  const auto tags = make_images();
  const History history(tags);
  record(path());
  // A VHDX's smallest table is for 131072 blocks, which is a lot to look at after each crash.
  const bool large_table = GetParam().format == Format::vhdx && long_rounds() > 0;
  const auto beyond_table = large_table ? 129 * kGiB : 100 * kMiB;
  ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, beyond_table))));
  ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, kSize))));
  crash(path(), effort(), [&](const auto&) {
    verify(path(), history, 0, 0);
    ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, kSize + kMiB))));
    verify(path(), history, 0, 0);
  });
}

TEST_P(Crash, DuringMergingKeepsTheDisk) {
  if (GetParam().kind != Kind::differencing) {
    GTEST_SKIP() << "has no parent";
  }
  auto tags = make_images();
  {
    std::vector<std::uint64_t> own(tags.size());
    for (std::uint64_t sector = 1000; sector < 5000; sector += sector % 7 * 40 + 1) {
      own[sector] = tags[sector] = 0x5678000000000000 + sector;
    }
    write_tags(path(), own);
  }
  const History history(tags);
  record(path());
  record(parent_path());
  ASSERT_TRUE(succeeds(now(merge_image(store_, path(), MergedChild::keep, {}))));
  const auto child_bytes = store_.file(path()).bytes();
  const auto child_size = store_.file(path()).size();
  crash(parent_path(), effort(), [&](const auto& state) {
    // All that a merge changes in the child is durable before the parent changes, except for its closing.
    store_.put(path(), std::make_unique<MemoryFile>(path(), child_bytes, child_size));
    verify(path(), history, 0, 0);
    ASSERT_TRUE(succeeds(now(merge_image(store_, path(), MergedChild::remove, {})))) << state.description;
    verify(parent_path(), history, 0, 0);
  });
}

TEST_P(Crash, DuringFlatteningKeepsTheDisk) {
  if (GetParam().kind != Kind::differencing) {
    GTEST_SKIP() << "has no parent";
  }
  const auto tags = make_images();
  const History history(tags);
  record(path());
  ASSERT_TRUE(succeeds(now(flatten_image(store_, path(), {}))));
  crash(path(), effort(), [&](const auto&) { verify(path(), history, 0, 0); });
}

TEST_P(Crash, DuringRebasingKeepsTheDisk) {
  if (GetParam().kind != Kind::differencing) {
    GTEST_SKIP() << "has no parent";
  }
  const auto tags = make_images();
  const History history(tags);
  record(path());
  ASSERT_TRUE(succeeds(now(rebase_image(store_, path(), parent_path(), Rebasing::reconnect, {}))));
  crash(path(), effort(), [&](const auto&) { verify(path(), history, 0, 0); });
}

}  // namespace
}  // namespace bulkhead::disk
