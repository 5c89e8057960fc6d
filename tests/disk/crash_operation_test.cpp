// SPDX-License-Identifier: Apache-2.0
// Crashes, and full disks, while an operation changes an image as a whole: the disk stays what it was, and the same
// operation run again finishes.
#include "disk/operation/change.hpp"
#include "disk/operation/convert.hpp"
#include "tests/disk/crash.hpp"

namespace bulkhead::disk {
namespace {

class CrashedOperation : public Crash {
 protected:
  /// Content everywhere, of which the middle becomes zeros again.
  History make_compactable() {
    auto tags = make_images();
    for (std::uint64_t sector = 0; sector < tags.size(); ++sector) {
      tags[sector] = 0x1234000000000000 + sector;
    }
    write_tags(path(), tags);
    constexpr std::uint64_t kFirst = 1024;
    constexpr std::uint64_t kEnd = 5120;
    auto disk = open(path());
    EXPECT_TRUE(succeeds(now(disk->zero(kFirst * kSector, (kEnd - kFirst) * kSector))));
    EXPECT_TRUE(succeeds(now(disk->close())));
    std::fill(tags.begin() + kFirst, tags.begin() + kEnd, 0);
    return History(tags);
  }

  /// A child with sectors of its own all over.
  History make_mergeable() {
    auto tags = make_images();
    std::vector<std::uint64_t> own(tags.size());
    for (std::uint64_t sector = 1000; sector < 5000; sector += sector % 7 * 40 + 1) {
      own[sector] = tags[sector] = 0x5678000000000000 + sector;
    }
    write_tags(path(), own);
    return History(tags);
  }

  Conversion conversion() const {
    Conversion conversion;
    conversion.source = "source.raw";
    conversion.target.path = path();
    conversion.target.kind = GetParam().kind;
    conversion.target.block = static_cast<std::uint32_t>(GetParam().format == Format::vhdx ? kMiB : 512 * kKiB);
    conversion.checkpoint = kMiB;
    return conversion;
  }
  History make_source() {
    NewImage image{.path = "source.raw", .format = std::nullopt, .size = kSize, .parent = {}};
    EXPECT_TRUE(succeeds(now(create_image(store_, image))));
    std::vector<std::uint64_t> tags(kSize / kSector);
    for (std::uint64_t sector = 0; sector < tags.size(); sector += sector % 1000 == 999 ? 1500 : 1) {
      tags[sector] = 0x9abc000000000000 + sector;
    }
    write_tags("source.raw", tags);
    return History(tags);
  }
  void remove_if_there(const std::string& name) {
    if (store_.exists(name)) {
      ASSERT_TRUE(succeeds(store_.remove(name)));
    }
  }

  /// Runs `operation` on files that take only the first 0, 1, 2 ... changes, until it succeeds. After each failure
  /// `check` looks at what is left.
  void fill_up(const std::function<Result<>()>& operation, const std::function<void()>& check) {
    const auto names = store_.names();
    std::map<std::string, CrashStates::Content> start;
    for (const auto& name : names) {
      start[name] = {store_.file(name).bytes(), store_.file(name).size()};
    }
    bool finished = false;
    for (std::uint64_t room = 0; !finished && !HasFailure(); room += long_rounds() == 0 ? 7 : 1) {
      SCOPED_TRACE(testing::Message() << "room for " << room << " changes");
      for (const auto& name : store_.names()) {
        ASSERT_TRUE(succeeds(store_.remove(name)));
      }
      for (const auto& [name, content] : start) {
        store_.put(name, std::make_unique<MemoryFile>(name, content.bytes, content.size));
      }
      auto left = room;
      store_.set_wrap([&left](MemoryFile& file) { return std::make_unique<FillingFile>(file, left); });
      finished = operation().has_value();
      store_.set_wrap({});
      check();
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Images, CrashedOperation, crash_settings(),
                         [](const auto& setting) { return setting.param.name; });

TEST_P(CrashedOperation, CompactKeepsTheDisk) {
  if (GetParam().kind == Kind::fixed) {
    GTEST_SKIP() << "is not compacted";
  }
  const auto history = make_compactable();
  record({path()});
  ASSERT_TRUE(succeeds(now(compact_image(store_, path(), {}, {}))));
  const auto size = store_.file(path()).size();
  crash(effort(), [&](const auto&) {
    verify(path(), history);
    ASSERT_TRUE(succeeds(now(compact_image(store_, path(), {}, {}))));
    EXPECT_LE(store_.file(path()).size(), size);
    verify(path(), history);
  });
}

TEST_P(CrashedOperation, ResizeKeepsTheDisk) {
  const History history(make_images());
  record({path()});
  // A VHDX's smallest table is for 131072 blocks, which is a lot to look at after each crash.
  const bool large_table = GetParam().format == Format::vhdx && long_rounds() > 0;
  const bool fixed = GetParam().kind == Kind::fixed;  // writes all that it grows by
  const auto larger = fixed ? kSize + 2 * kMiB : large_table ? 129 * kGiB : 100 * kMiB;
  ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, larger))));
  // Smaller than its parent, and as large again: what the parent has there stays out of sight.
  ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, kSize / 2 + kMiB / 4))));
  ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, kSize))));
  crash(effort(), [&](const auto&) {
    verify(path(), history);
    ASSERT_TRUE(succeeds(now(resize_image(store_, path(), {}, kSize + kMiB))));
    verify(path(), history);
  });
}

TEST_P(CrashedOperation, MergeKeepsTheDisk) {
  if (!has_parent()) {
    GTEST_SKIP() << "has no parent";
  }
  const auto history = make_mergeable();
  record({path(), parent_path()});
  ASSERT_TRUE(succeeds(now(merge_image(store_, path(), {}, MergedChild::keep, {}))));
  crash(effort(), [&](const auto&) {
    verify(path(), history);
    ASSERT_TRUE(succeeds(now(merge_image(store_, path(), {}, MergedChild::remove, {}))));
    verify(parent_path(), history);
  });
}

TEST_P(CrashedOperation, FlattenKeepsTheDisk) {
  if (!has_parent()) {
    GTEST_SKIP() << "has no parent";
  }
  const History history(make_images());
  record({path()});
  ASSERT_TRUE(succeeds(now(flatten_image(store_, path(), {}, {}))));
  crash(effort(), [&](const auto&) { verify(path(), history); });
}

TEST_P(CrashedOperation, RebaseKeepsTheDisk) {
  if (!has_parent()) {
    GTEST_SKIP() << "has no parent";
  }
  const History history(make_images());
  record({path()});
  ASSERT_TRUE(succeeds(now(rebase_image(store_, path(), {}, parent_path(), Rebasing::reconnect, {}))));
  crash(effort(), [&](const auto&) { verify(path(), history); });
}

TEST_P(CrashedOperation, ConvertGoesOn) {
  if (has_parent()) {
    GTEST_SKIP() << "is not what a conversion makes";
  }
  const auto history = make_source();
  record({});
  ASSERT_TRUE(succeeds(now(convert(store_, conversion()))));
  crash(effort(), [&](const auto&) {
    remove_if_there(path());
    ASSERT_TRUE(succeeds(now(convert(store_, conversion()))));
    EXPECT_EQ(store_.names(), (std::vector<std::string>{path(), "source.raw"}));
    verify(path(), history);
  });
}

TEST_P(CrashedOperation, AFullDiskWhileCompactingLosesNothing) {
  if (GetParam().kind == Kind::fixed) {
    GTEST_SKIP() << "is not compacted";
  }
  const auto history = make_compactable();
  fill_up([&] { return now(compact_image(store_, path(), {}, {})); },
          [&] {
            verify(path(), history);
            ASSERT_TRUE(succeeds(now(compact_image(store_, path(), {}, {}))));
            verify(path(), history);
          });
}

TEST_P(CrashedOperation, AFullDiskWhileMergingLosesNothing) {
  if (!has_parent()) {
    GTEST_SKIP() << "has no parent";
  }
  const auto history = make_mergeable();
  fill_up([&] { return now(merge_image(store_, path(), {}, MergedChild::keep, {})); },
          [&] {
            verify(path(), history);
            ASSERT_TRUE(succeeds(now(merge_image(store_, path(), {}, MergedChild::remove, {}))));
            verify(parent_path(), history);
          });
}

TEST_P(CrashedOperation, AFullDiskWhileConvertingLosesNothing) {
  if (has_parent()) {
    GTEST_SKIP() << "is not what a conversion makes";
  }
  const auto history = make_source();
  fill_up([&] { return now(convert(store_, conversion())); },
          [&] {
            if (!store_.exists(path())) {
              ASSERT_TRUE(succeeds(now(convert(store_, conversion()))));
            }
            verify(path(), history);
          });
}

}  // namespace
}  // namespace bulkhead::disk
