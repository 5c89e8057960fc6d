// SPDX-License-Identifier: Apache-2.0
// What a VHDX says about itself that we do not know: refused if it is required, kept if it is not.
#include <gtest/gtest.h>

#include <algorithm>

#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/test_files.hpp"

namespace bulkhead::disk {
namespace {

using namespace vhdx;

constexpr Guid kUnknown = Guid::of("12345678-1234-1234-1234-123456789abc");
constexpr std::uint64_t kMetadataRegionAt = 2 * kMiB;
constexpr std::uint32_t kItemAt = 512 * kKiB;  // behind all that we write there

template <typename Layout>
Layout read_layout(File& file, std::uint64_t offset) {
  Layout layout;
  EXPECT_TRUE(succeeds(now(read_bytes(file, offset, writable_bytes_of(layout)))));
  return layout;
}

template <typename Layout>
void write_layout(File& file, std::uint64_t offset, const Layout& layout) {
  ASSERT_TRUE(succeeds(now(write_bytes(file, offset, bytes_of(layout)))));
}

class VhdxMetadata : public testing::Test {
 protected:
  VhdxMetadata() { EXPECT_TRUE(succeeds(now(create(file_, {.size = 8 * kMiB, .block_size = 1 << 20})))); }

  Result<std::unique_ptr<VhdxDisk>> open() { return now(VhdxDisk::open(std::make_unique<BorrowedFile>(file_))); }

  void add_item(std::uint32_t flags, std::span<const std::byte> content) {
    auto header = read_layout<MetadataTableHeader>(file_, kMetadataRegionAt);
    MetadataTableEntry entry{};
    entry.item = kUnknown;
    entry.offset = kItemAt;
    entry.length = static_cast<std::uint32_t>(content.size());
    entry.flags = flags;
    write_layout(file_, kMetadataRegionAt + sizeof header + header.entry_count * sizeof entry, entry);
    header.entry_count = static_cast<std::uint16_t>(header.entry_count + 1);
    write_layout(file_, kMetadataRegionAt, header);
    ASSERT_TRUE(succeeds(now(write_bytes(file_, kMetadataRegionAt + kItemAt, content))));
  }

  void add_region(std::uint32_t required, std::uint64_t offset) {
    for (const auto copy : kRegionTableOffsets) {
      std::vector<std::byte> table(kRegionTableLength);
      ASSERT_TRUE(succeeds(now(read_bytes(file_, copy, table))));
      auto header = load<RegionTableHeader>(table);
      RegionTableEntry entry{};
      entry.guid = kUnknown;
      entry.file_offset = offset;
      entry.length = static_cast<std::uint32_t>(kMiB);
      entry.required = required;
      store(table, sizeof header + header.entry_count * sizeof entry, entry);
      header.entry_count = header.entry_count + 1;
      store(table, 0, header);
      header.checksum = checksum_of(table);
      store(table, 0, header);
      ASSERT_TRUE(succeeds(now(write_bytes(file_, copy, table))));
    }
  }

  MemoryFile file_{"test.vhdx"};
};

TEST_F(VhdxMetadata, AnUnknownItemThatIsRequiredIsRefusedByName) {
  add_item(kMetadataIsRequired, pattern(64, 1));
  const auto disk = open();
  ASSERT_FALSE(disk);
  EXPECT_EQ(disk.error().message(), "'test.vhdx' needs metadata that is not known here: item " + kUnknown.text());
}

TEST_F(VhdxMetadata, AnUnknownItemIsKeptThroughEveryChange) {
  for (const std::uint32_t flags : {std::uint32_t{0}, kMetadataIsUser, kMetadataIsVirtualDisk}) {
    MemoryFile fresh("test.vhdx");
    file_ = std::move(fresh);
    ASSERT_TRUE(succeeds(now(create(file_, {.size = 8 * kMiB, .block_size = 1 << 20}))));
    const auto content = pattern(64, 1);
    add_item(flags, content);
    {
      auto disk = open();
      ASSERT_TRUE(succeeds(disk));
      ASSERT_TRUE(succeeds(now(write_bytes(**disk, 0, pattern(3 * kMiB, 2)))));
      ASSERT_TRUE(succeeds(now((*disk)->resize(kTiB))));
      ASSERT_TRUE(succeeds(now((*disk)->compact({}))));
      ASSERT_TRUE(succeeds(now((*disk)->close())));
    }
    const auto disk = open();
    ASSERT_TRUE(succeeds(disk));
    const auto& entries = (*disk)->metadata().entries;
    const auto found = std::ranges::find(entries, kUnknown, &MetadataTableEntry::item);
    ASSERT_NE(found, entries.end());
    EXPECT_EQ(found->flags, flags);
    std::vector<std::byte> kept(found->length);
    ASSERT_TRUE(succeeds(now(read_bytes(file_, kMetadataRegionAt + found->offset, kept))));
    EXPECT_EQ(kept, content);
  }
}

TEST_F(VhdxMetadata, AnUnknownRegionThatIsRequiredIsRefusedByName) {
  add_region(1, 4 * kMiB);
  const auto disk = open();
  ASSERT_FALSE(disk);
  EXPECT_EQ(disk.error().message(), "'test.vhdx' needs a region that is not known here: " + kUnknown.text());
}

TEST_F(VhdxMetadata, AnUnknownRegionStaysWhereItIs) {
  const auto content = pattern(kMiB, 1);
  ASSERT_TRUE(succeeds(now(write_bytes(file_, 4 * kMiB, content))));
  add_region(0, 4 * kMiB);
  {
    auto disk = open();
    ASSERT_TRUE(succeeds(disk));
    ASSERT_TRUE(succeeds(now(write_bytes(**disk, 0, pattern(8 * kMiB, 2)))));
    ASSERT_TRUE(succeeds(now((*disk)->discard(0, 6 * kMiB))));
    ASSERT_TRUE(succeeds(now((*disk)->resize(kTiB))));
    ASSERT_TRUE(succeeds(now((*disk)->compact({}))));
    ASSERT_TRUE(succeeds(now((*disk)->close())));
  }
  ASSERT_TRUE(succeeds(open()));
  std::vector<std::byte> kept(kMiB);
  ASSERT_TRUE(succeeds(now(read_bytes(file_, 4 * kMiB, kept))));
  EXPECT_EQ(kept, content);
}

TEST_F(VhdxMetadata, AnUnknownKeyOfAParentLocatorIsKept) {
  MemoryFile file("child.vhdx");
  CreateOptions options{.size = 8 * kMiB, .kind = Kind::differencing, .block_size = 1 << 20};
  options.parent = ParentLocator{{{"parent_linkage", "{" + kUnknown.text() + "}"}, {"relative_path", "p"}, {"x", "y"}}};
  ASSERT_TRUE(succeeds(now(create(file, options))));
  {
    auto disk = now(VhdxDisk::open(std::make_unique<BorrowedFile>(file)));
    ASSERT_TRUE(succeeds(disk));
    auto metadata = (*disk)->metadata();
    metadata.parent->values["relative_path"] = "somewhere/else/entirely/and/longer.vhdx";
    ASSERT_TRUE(succeeds(now((*disk)->set_metadata(metadata))));
    ASSERT_TRUE(succeeds(now((*disk)->close())));
  }
  const auto disk = now(VhdxDisk::open(std::make_unique<BorrowedFile>(file)));
  ASSERT_TRUE(succeeds(disk));
  EXPECT_EQ((*disk)->metadata().parent->value("x"), "y");
  EXPECT_EQ((*disk)->metadata().parent->value("relative_path"), "somewhere/else/entirely/and/longer.vhdx");
}

}  // namespace
}  // namespace bulkhead::disk
