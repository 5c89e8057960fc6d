// SPDX-License-Identifier: Apache-2.0
//
// Crash safety, proved by trying: whatever subset of what was not flushed reaches the files, whole or torn, the image
// opens, checks clean, and holds what was flushed.
//
//     workload -> disk library -> RecordingFile -> (DelayedFile) -> MemoryFile
//                                      |
//                                 CrashStates -> each state: check_image, open, compare with the History
//
// In the environment BULKHEAD_CRASH_ROUNDS sets how many workloads are tried, and how thoroughly, and BULKHEAD_CRASH_SEED
// what they are. ctest's label "long" tries many.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "disk/byte_order.hpp"
#include "disk/file/recording_file.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/create.hpp"
#include "tests/disk/memory_store.hpp"

namespace bulkhead::disk {

constexpr std::uint64_t kSector = 512;

inline std::uint64_t setting_of(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}
/// 0: a quick run, of one short workload.
inline std::uint64_t long_rounds() { return setting_of("BULKHEAD_CRASH_ROUNDS", 0); }
inline std::uint64_t seed() { return setting_of("BULKHEAD_CRASH_SEED", 0); }

inline CrashStates::Effort effort() {
  return long_rounds() == 0 ? CrashStates::Effort{.exhaustive = 2, .samples = 1}
                            : CrashStates::Effort{.exhaustive = 5, .samples = 4};
}

/// A sector whose every word is `tag`, so that one that is mixed from two is seen.
inline void fill(std::span<std::byte> sector, std::uint64_t tag) {
  for (std::size_t at = 0; at < sector.size(); at += 8) {
    std::memcpy(&sector[at], &tag, 8);
  }
}

inline std::optional<std::uint64_t> tag_of(std::span<const std::byte> sector) {
  std::uint64_t tag = 0;
  std::memcpy(&tag, sector.data(), 8);
  // Each word is as the one before it.
  const bool whole = std::memcmp(sector.data(), sector.data() + 8, sector.size() - 8) == 0;
  return whole ? std::optional(tag) : std::nullopt;
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
    bool allowed = start_[sector] == tag;
    for (const auto& change : changes_[sector]) {
      if (change.step > begun) {
        break;
      }
      const bool replaces_all = change.step <= durable && !change.perhaps;
      allowed = change.tag == tag || (allowed && !replaces_all);
    }
    return allowed;
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
inline std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

class Crash : public testing::TestWithParam<Setting> {
 protected:
  static constexpr std::uint64_t kSize = 4 * kMiB;

  std::string ending() const { return GetParam().format == Format::vhdx ? ".vhdx" : ".vhd"; }
  std::string path() const { return "disk" + ending(); }
  std::string parent_path() const { return "parent" + ending(); }
  bool has_parent() const { return GetParam().kind == Kind::differencing; }

  /// Fills the store with an image whose sectors hold tags, and gives these.
  std::vector<std::uint64_t> make_images() {
    std::vector<std::uint64_t> tags(kSize / kSector);
    NewImage image{.path = path(), .format = std::nullopt, .kind = GetParam().kind, .size = kSize, .parent = {}};
    image.block = static_cast<std::uint32_t>(GetParam().format == Format::vhdx ? kMiB : 512 * kKiB);
    if (has_parent()) {
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

  std::unique_ptr<Disk> open(const std::string& image, ImageStore::Access access = ImageStore::Access::write) {
    OpenOptions options;
    options.access = access;
    auto disk = now(open_disk(store_, image, options));
    EXPECT_TRUE(succeeds(disk));
    return disk ? std::move(*disk) : nullptr;
  }

  void write_tags(const std::string& image, const std::vector<std::uint64_t>& tags) {
    auto disk = open(image);
    ASSERT_TRUE(disk);
    std::vector<std::byte> bytes(kSector);
    for (std::uint64_t sector = 0; sector < tags.size(); ++sector) {
      if (tags[sector] != 0) {
        fill(bytes, tags[sector]);
        ASSERT_TRUE(succeeds(now(write_bytes(*disk, sector * kSector, bytes))));
      }
    }
    ASSERT_TRUE(succeeds(now(disk->close())));
  }

  /// From now on what happens to these files, and to those that are made, is recorded. With a seed, operations end late
  /// and out of order: step() lets one go on.
  void record(const std::vector<std::string>& images, std::optional<std::uint64_t> seed = std::nullopt) {
    recorded_ = Recorded();
    seed_ = seed;
    for (const auto& image : images) {
      add_recorded(store_.file(image));
    }
    store_.set_wrap([this](MemoryFile& opened) -> std::unique_ptr<File> {
      const auto found = recorded_.files.find(&opened);
      return std::make_unique<BorrowedFile>(found == recorded_.files.end() ? add_recorded(opened) : *found->second);
    });
  }
  Recording& recording() { return recorded_.recording; }
  bool step() {
    return std::ranges::any_of(recorded_.delayed, [](const auto& file) { return file->step(); });
  }

  /// Tries the crashes of the recorded files; the others stay as they are now. Returns how many there are.
  std::uint64_t crash(CrashStates::Effort effort, const std::function<void(const CrashStates::State&)>& check) {
    const auto operations = recording().operations();
    const CrashStates states(recorded_.start, operations, effort);
    const auto names = recorded_.names;
    store_.set_wrap({});
    return states.each([&](const CrashStates::State& state) {
      for (std::size_t i = 0; i < names.size(); ++i) {
        store_.put(names[i], std::make_unique<MemoryFile>(names[i], state.files[i].bytes, state.files[i].size));
      }
      check(state);
      if (HasFailure()) {
        ADD_FAILURE() << state.description << "; BULKHEAD_CRASH_ROUNDS=" << long_rounds()
                      << " BULKHEAD_CRASH_SEED=" << seed();
        return false;
      }
      return true;
    });
  }

  /// The disk opens, is clean, and each sector that it has holds what it may.
  void verify(const std::string& image, const History& history, std::uint64_t durable, std::uint64_t begun) {
    const auto report = now(check_image(store_, image, {}, Repairing::no));
    ASSERT_TRUE(succeeds(report));
    for (const auto& finding : report->findings) {
      EXPECT_EQ(finding.severity, Finding::Severity::note) << finding.text;
    }
    EXPECT_TRUE(report->clean());
    for (const auto access : {ImageStore::Access::read, ImageStore::Access::write}) {
      auto disk = open(image, access);
      ASSERT_TRUE(disk);
      const auto sectors = std::min(history.sectors(), disk->properties().size / kSector);
      for (std::uint64_t sector = 0; sector < sectors; ++sector) {
        const auto within = sector * kSector % read_.size();
        if (within == 0) {
          const auto bytes = std::span(read_).first(std::min(read_.size(), (sectors - sector) * kSector));
          ASSERT_TRUE(succeeds(now(read_bytes(*disk, sector * kSector, bytes))));
        }
        const auto tag = tag_of(std::span(read_).subspan(within, kSector));
        ASSERT_TRUE(tag.has_value()) << "sector " << sector << " is torn";
        ASSERT_TRUE(history.allows(sector, *tag, durable, begun))
            << "sector " << sector << " holds " << std::hex << *tag << std::dec << "; durable is step " << durable;
      }
    }
  }
  /// The same of a disk that does not change.
  void verify(const std::string& image, const History& history) { verify(image, history, 0, 0); }

  MemoryStore store_;

 private:
  struct Recorded {
    Recording recording;
    std::vector<std::string> names;
    std::vector<CrashStates::Content> start;
    std::vector<std::unique_ptr<DelayedFile>> delayed;
    std::map<MemoryFile*, std::unique_ptr<RecordingFile>> files;
  };

  RecordingFile& add_recorded(MemoryFile& file) {
    File* base = &file;
    const auto number = recorded_.names.size();
    if (seed_) {
      recorded_.delayed.push_back(std::make_unique<DelayedFile>(file, *seed_ + number));
      base = recorded_.delayed.back().get();
    }
    recorded_.names.push_back(file.name());
    recorded_.start.push_back({file.bytes(), file.size()});
    auto& made = recorded_.files[&file];
    made = std::make_unique<RecordingFile>(recorded_.recording, number, *base);
    return *made;
  }

  Recorded recorded_;
  std::optional<std::uint64_t> seed_;
  std::vector<std::byte> read_ = std::vector<std::byte>(64 * kKiB);  // kept: thousands of states are read
};

inline auto crash_settings() {
  return testing::Values(Setting{"VhdFixed", Format::vhd, Kind::fixed}, Setting{"VhdxFixed", Format::vhdx, Kind::fixed},
                         Setting{"VhdDynamic", Format::vhd, Kind::dynamic},
                         Setting{"VhdDifferencing", Format::vhd, Kind::differencing},
                         Setting{"VhdxDynamic", Format::vhdx, Kind::dynamic},
                         Setting{"VhdxDifferencing", Format::vhdx, Kind::differencing});
}

}  // namespace bulkhead::disk
