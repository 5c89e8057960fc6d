// SPDX-License-Identifier: Apache-2.0
// Crashes while a disk is written to.
#include "tests/disk/crash.hpp"

namespace bulkhead::disk {
namespace {

class CrashedWrites : public Crash {
 protected:
  /// Some sectors, now and then a whole block.
  struct Range {
    std::uint64_t first;
    std::uint64_t count;
  };
  Range draw_range(const Disk& disk, std::mt19937_64& random) const {
    const auto sectors = kSize / kSector;
    const auto block = (disk.properties().block != 0 ? disk.properties().block : kMiB) / kSector;
    const bool whole = random() % 4 == 0;
    const auto first = whole ? random() % (sectors / block) * block : random() % sectors;
    return {first, std::min(whole ? block : random() % 40 + 1, sectors - first)};
  }

  /// What a write of this step puts there.
  static std::vector<std::byte> tagged(History& history, std::uint64_t step, Range range) {
    std::vector<std::byte> bytes(range.count * kSector);
    for (std::uint64_t i = 0; i < range.count; ++i) {
      const auto tag = (step << 32) | (range.first + i);
      fill(std::span(bytes).subspan(i * kSector, kSector), tag);
      history.write(step, range.first + i, tag);
    }
    return bytes;
  }
  static void zeroed(History& history, std::uint64_t step, Range range) {
    for (std::uint64_t i = 0; i < range.count; ++i) {
      history.write(step, range.first + i, 0);
    }
  }
  static void discarded(History& history, std::uint64_t step, Range range) {
    for (std::uint64_t i = 0; i < range.count; ++i) {
      history.discard(step, range.first + i);
    }
  }

  /// Any of the changes, and flushes, one after the other.
  void one_step(Disk& disk, History& history, std::uint64_t step, std::mt19937_64& random) {
    const auto range = draw_range(disk, random);
    const auto choice = random() % 10;
    if (choice < 5) {
      const auto bytes = tagged(history, step, range);
      ASSERT_TRUE(succeeds(now(write_bytes(disk, range.first * kSector, bytes))));
    } else if (choice < 7) {
      ASSERT_TRUE(succeeds(now(disk.zero(range.first * kSector, range.count * kSector))));
      zeroed(history, step, range);
    } else if (choice == 7) {
      ASSERT_TRUE(succeeds(now(disk.discard(range.first * kSector, range.count * kSector))));
      discarded(history, step, range);
    } else {
      ASSERT_TRUE(succeeds(now(disk.flush())));
      recording().mark_durable(step);
    }
  }

  /// Requests that touch no sector twice, all in flight with a flush between them, which makes durable what had ended
  /// before: the batches up to the one before this.
  void one_batch(Disk& disk, History& history, std::uint64_t batch, std::mt19937_64& random) {
    constexpr std::uint64_t kRequests = 12;
    const auto stride = kSize / kSector / kRequests;
    std::vector<std::vector<std::byte>> contents(kRequests);
    std::vector<iovec> pieces(kRequests);
    unsigned running = 0;
    const auto ended = [&running](const Result<>& result) {
      EXPECT_TRUE(succeeds(result));
      --running;
    };
    for (std::uint64_t i = 0; i < kRequests; ++i) {
      const Range range{i * stride + random() % (stride / 2), random() % (stride / 2) + 1};
      ++running;
      if (random() % 4 == 0) {
        zeroed(history, batch, range);
        start(disk.zero(range.first * kSector, range.count * kSector), ended);
      } else {
        contents[i] = tagged(history, batch, range);
        pieces[i] = piece(contents[i]);
        start(disk.write(range.first * kSector, Buffers(&pieces[i], 1)), ended);
      }
      for (auto steps = random() % 6; steps > 0; --steps) {
        step();
      }
      if (random() % kRequests == 0) {
        ++running;
        start(disk.flush(), [this, &ended, batch](const Result<>& result) {
          ended(result);
          recording().mark_durable(batch - 1);
        });
      }
    }
    while (running > 0) {
      ASSERT_TRUE(step());
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Images, CrashedWrites, crash_settings(),
                         [](const auto& setting) { return setting.param.name; });

TEST_P(CrashedWrites, LoseNothingThatWasFlushed) {
  for (std::uint64_t round = 0; round < std::max<std::uint64_t>(long_rounds(), 1); ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    store_ = MemoryStore();
    History history(make_images());
    record({path()});
    auto disk = open(path());
    std::mt19937_64 random(seed() + round);
    const std::uint64_t steps = long_rounds() == 0 ? 12 : 28;
    for (std::uint64_t step = 1; step <= steps; ++step) {
      recording().mark_begin(step);
      ASSERT_NO_FATAL_FAILURE(one_step(*disk, history, step, random));
    }
    if (round % 2 == 0) {
      recording().mark_begin(steps + 1);
      ASSERT_TRUE(succeeds(now(disk->close())));
      recording().mark_durable(steps + 1);
    }
    disk.reset();
    const auto tried = crash({effort().exhaustive, effort().samples, seed() + round},
                             [&](const auto& state) { verify(path(), history, state.durable, state.begun); });
    EXPECT_GT(tried, 10u);
    if (HasFailure()) {
      return;
    }
  }
}

TEST_P(CrashedWrites, InFlightTogetherLoseNothingThatWasFlushed) {
  for (std::uint64_t round = 0; round < std::max<std::uint64_t>(long_rounds(), 1); ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    store_ = MemoryStore();
    History history(make_images());
    record({path()}, seed() + round);
    OpenOptions options;
    options.access = ImageStore::Access::write;
    auto disk = run(open_disk(store_, path(), options), [this] { step(); });
    ASSERT_TRUE(succeeds(disk));
    std::mt19937_64 random(seed() + round);
    const std::uint64_t batches = long_rounds() == 0 ? 2 : 5;
    for (std::uint64_t batch = 1; batch <= batches; ++batch) {
      recording().mark_begin(batch);
      ASSERT_NO_FATAL_FAILURE(one_batch(**disk, history, batch, random));
    }
    ASSERT_TRUE(succeeds(run((*disk)->flush(), [this] { step(); })));
    recording().mark_durable(batches);
    disk->reset();
    const auto tried = crash({effort().exhaustive, effort().samples, seed() + round},
                             [&](const auto& state) { verify(path(), history, state.durable, state.begun); });
    EXPECT_GT(tried, 10u);
    if (HasFailure()) {
      return;
    }
  }
}

/// One commit of the tables may need several log entries, of which a crash keeps the first ones: none of them may make
/// a block refer to a sector bitmap that only a later one brings.
TEST(CrashedCommit, OfSeveralLogEntriesLeavesNoBlockWithoutItsBitmap) {
  constexpr std::uint64_t kTablePage = 512 * kMiB;  // what a page of the table is for, with blocks of 1 MiB
  constexpr std::uint64_t kPages = 72;              // more than one entry of the log holds
  MemoryStore store;
  NewImage image{.path = "parent.vhdx", .format = {}, .size = kPages * kTablePage, .block = 1 << 20, .parent = {}};
  ASSERT_TRUE(succeeds(now(create_image(store, image))));
  image.path = "disk.vhdx";
  image.parent = "parent.vhdx";
  ASSERT_TRUE(succeeds(now(create_image(store, image))));
  auto& file = store.file("disk.vhdx");
  const CrashStates::Content start{file.bytes(), file.size()};
  Recording recording;
  RecordingFile recorder(recording, 0, file);
  store.set_wrap([&](MemoryFile&) { return std::make_unique<BorrowedFile>(recorder); });
  OpenOptions options;
  options.access = ImageStore::Access::write;
  {
    auto disk = now(open_disk(store, "disk.vhdx", options));
    ASSERT_TRUE(succeeds(disk));
    for (std::uint64_t page = 0; page < kPages; ++page) {
      ASSERT_TRUE(succeeds(now(write_bytes(**disk, page * kTablePage, pattern(kSector, page)))));
    }
    ASSERT_TRUE(succeeds(now((*disk)->flush())));
  }
  store.set_wrap({});
  CrashStates({start}, recording.operations(), {.exhaustive = 0, .samples = 0}).each([&](const auto& state) {
    store.put("disk.vhdx", std::make_unique<MemoryFile>("disk.vhdx", state.files[0].bytes, state.files[0].size));
    auto disk = now(open_disk(store, "disk.vhdx"));
    EXPECT_TRUE(succeeds(disk)) << state.description;
    std::vector<std::byte> bytes(kSector);
    for (std::uint64_t page = 0; disk && page < kPages; ++page) {
      EXPECT_TRUE(succeeds(now(read_bytes(**disk, page * kTablePage, bytes)))) << state.description;
    }
    return !testing::Test::HasFailure();
  });
}

}  // namespace
}  // namespace bulkhead::disk
