// SPDX-License-Identifier: Apache-2.0
// What a request costs: what is copied, what is written, how often it is flushed, how much of a table is looked at.
#include <gtest/gtest.h>

#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/stored_images.hpp"
#include "tests/disk/test_files.hpp"

namespace bulkhead::disk {
namespace {

/// What was done to a file: where in memory its reads went and its writes came from, how many flushes there were, and how many bytes
/// were started on their way to the disk before that.
struct Traffic {
  std::vector<iovec> read;
  std::vector<iovec> written;
  int flushes = 0;
  std::uint64_t begun = 0;
};

class WatchedFile final : public BorrowedFile {
 public:
  WatchedFile(File& file, Traffic& traffic) : BorrowedFile(file), traffic_(traffic) {}
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override {
    traffic_.read.insert(traffic_.read.end(), buffers.begin(), buffers.end());
    return BorrowedFile::read(offset, buffers);
  }
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override {
    traffic_.written.insert(traffic_.written.end(), buffers.begin(), buffers.end());
    return BorrowedFile::write(offset, buffers);
  }
  Task<Result<>> flush() override {
    ++traffic_.flushes;
    return BorrowedFile::flush();
  }
  Task<Result<>> begin_flush(std::uint64_t offset, std::uint64_t length) override {
    traffic_.begun += length;
    return BorrowedFile::begin_flush(offset, length);
  }

 private:
  Traffic& traffic_;
};

bool lies_in(const iovec& part, std::span<const std::byte> memory) {
  const auto* start = static_cast<const std::byte*>(part.iov_base);
  return start >= memory.data() && start + part.iov_len <= memory.data() + memory.size();
}

std::uint64_t of_memory(const std::vector<iovec>& parts, std::span<const std::byte> memory) {
  std::uint64_t length = 0;
  for (const auto& part : parts) {
    length += lies_in(part, memory) ? part.iov_len : 0;
  }
  return length;
}

class DataPath : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Disk> open_watched(std::uint64_t size, Kind kind) {
    EXPECT_TRUE(succeeds(now(create_image(store_, image(GetParam(), size, kind)))));
    store_.set_wrap([this](MemoryFile& file) { return std::make_unique<WatchedFile>(file, traffic_); });
    return open(store_, GetParam(), for_writing());
  }
  MemoryStore store_;
  Traffic traffic_;
};

INSTANTIATE_TEST_SUITE_P(Images, DataPath, testing::Values("disk.raw", "disk.vhd", "disk.vhdx"),
                         [](const auto& path) { return path.param.substr(5); });

TEST_P(DataPath, StoredBlocksGoBetweenTheFileAndTheCallersMemoryWithoutACopy) {
  for (const auto kind : {Kind::dynamic, Kind::fixed}) {
    store_ = MemoryStore();
    auto disk = open_watched(16 * kMiB, kind);
    ASSERT_TRUE(disk);
    const auto bytes = pattern(5 * kMiB, 1);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, 1536, bytes))));
    EXPECT_EQ(of_memory(traffic_.written, bytes), bytes.size());
    traffic_ = Traffic();
    std::vector<std::byte> read(bytes.size());
    const auto middle = 3 * kMiB / 2 + 512;
    const iovec parts[] = {piece(std::span(read).first(middle)), piece(std::span(read).subspan(middle))};
    ASSERT_TRUE(succeeds(now(disk->read(1536, parts))));
    EXPECT_EQ(read, bytes);
    EXPECT_EQ(of_memory(traffic_.read, read), read.size());
    for (const auto& part : traffic_.read) {
      EXPECT_TRUE(lies_in(part, read));
    }
  }
}

/// All tables that change between two flushes become one entry of the log, which is made durable together with the data.
TEST(VhdxLog, ManyNewBlocksCostOneEntryAndOneFlush) {
  MemoryStore store;
  Traffic traffic;
  ASSERT_TRUE(succeeds(now(create_image(store, image("disk.vhdx", 4 * kGiB)))));
  store.set_wrap([&](MemoryFile& file) { return std::make_unique<WatchedFile>(file, traffic); });
  auto disk = open(store, "disk.vhdx", for_writing());
  const auto bytes = pattern(64 * kKiB, 1);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
  ASSERT_TRUE(succeeds(now(disk->flush())));  // the log begins
  traffic = Traffic();
  for (std::uint64_t block = 1; block < 4096; block += 200) {  // in eight pages of the table
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, block * kMiB, bytes))));
  }
  EXPECT_EQ(traffic.flushes, 0);
  ASSERT_TRUE(succeeds(now(disk->flush())));
  EXPECT_EQ(traffic.flushes, 1);
  std::erase_if(traffic.written, [&](const iovec& part) { return lies_in(part, bytes); });
  ASSERT_EQ(traffic.written.size(), 1u);
  EXPECT_EQ(traffic.written[0].iov_len, (1 + 8) * 4096u);  // descriptors, pages
  traffic = Traffic();
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
  ASSERT_TRUE(succeeds(now(disk->flush())));
  EXPECT_EQ(traffic.flushes, 1);
  EXPECT_EQ(traffic.written.size(), 1u);  // the data: no table has changed
  ASSERT_TRUE(succeeds(now(disk->close())));
}

/// The disk works while the rest is copied. What is there already may be written again before anybody flushes it, so it stays in memory.
TEST(VhdxWrite, ANewBlockThatIsWrittenWholeIsOnItsWayToTheDiskBeforeTheFlush) {
  MemoryStore store;
  Traffic traffic;
  auto made = image("disk.vhdx", 64 * kMiB);
  made.block = 2 * kMiB;
  ASSERT_TRUE(succeeds(now(create_image(store, made))));
  store.set_wrap([&](MemoryFile& file) { return std::make_unique<WatchedFile>(file, traffic); });
  auto disk = open(store, "disk.vhdx", for_writing());
  const auto bytes = pattern(2 * kMiB, 1);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 4 * kMiB, bytes))));
  EXPECT_EQ(traffic.begun, 3 * kMiB / 2);  // all but the last piece
  EXPECT_EQ(of_memory(traffic.written, bytes), bytes.size());
  std::vector<std::byte> read(bytes.size());
  ASSERT_TRUE(succeeds(now(read_bytes(*disk, 4 * kMiB, read))));
  EXPECT_EQ(read, bytes);
  traffic = Traffic();
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 4 * kMiB, bytes))));
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 8 * kMiB, std::span(bytes).first(kMiB)))));
  EXPECT_EQ(traffic.begun, 0u);
  ASSERT_TRUE(succeeds(now(disk->close())));
}

/// A file of a few kilobytes may say that it is a disk of 64 TB in blocks of 1 MiB.
TEST(Query, LooksThroughAnEmptyTableByPages) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("disk.vhdx", kTiB)))));
  auto child = image("child.vhdx", 0);
  child.parent = "disk.vhdx";
  ASSERT_TRUE(succeeds(now(create_image(store, child))));
  for (const std::string path : {"disk.vhdx", "child.vhdx"}) {
    const auto absent = path == "disk.vhdx" ? Content::hole : Content::parent;
    auto disk = open(store, path, for_writing());
    ASSERT_TRUE(disk);
    EXPECT_EQ(now(disk->query(0, kTiB)), (Extent{kTiB, absent})) << path;
    EXPECT_EQ(now(disk->query(512, kTiB - 1024)), (Extent{kTiB - 1024, absent})) << path;
    // Whatever it meets is told apart, wherever in a page or a chunk it lies.
    for (const auto at : {511 * kMiB, 600 * kGiB, 700 * kGiB + 3 * kMiB, kTiB - kMiB}) {
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, at, pattern(512, at)))));
      EXPECT_EQ(now(disk->query(at - kMiB, 3 * kMiB > kTiB - at + kMiB ? 2 * kMiB : 3 * kMiB)), (Extent{kMiB, absent}));
      EXPECT_EQ(now(disk->query(at, 512)), (Extent{512, Content::data}));
    }
    EXPECT_EQ(now(disk->query(0, kTiB)), (Extent{511 * kMiB, absent}));
    EXPECT_EQ(now(disk->query(512 * kMiB, kTiB - 512 * kMiB)), (Extent{600 * kGiB - 512 * kMiB, absent}));
    if (absent == Content::parent) {
      ASSERT_TRUE(succeeds(now(disk->zero(800 * kGiB, 2 * kGiB))));
      EXPECT_EQ(now(disk->query(800 * kGiB, 100 * kGiB)), (Extent{2 * kGiB, Content::zero}));
      EXPECT_EQ(now(disk->query(799 * kGiB, 100 * kGiB)), (Extent{kGiB, Content::parent}));
    }
    ASSERT_TRUE(succeeds(now(disk->close())));
    disk.reset();
    ASSERT_TRUE(succeeds(store.remove("child.vhdx")));  // its parent has changed now
    ASSERT_TRUE(succeeds(now(create_image(store, child))));
  }
}

}  // namespace
}  // namespace bulkhead::disk
