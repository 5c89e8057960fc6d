// SPDX-License-Identifier: Apache-2.0
#include "worker/mmio_map.hpp"

#include <gtest/gtest.h>

namespace bulkhead::worker {
namespace {

class RecordingDevice final : public vdev::MmioDevice {
 public:
  explicit RecordingDevice(std::vector<vdev::MmioRange> ranges) : ranges_(std::move(ranges)) {}
  std::span<const vdev::MmioRange> mmio_ranges() const override { return ranges_; }
  std::uint64_t read_mmio(std::size_t range, std::uint64_t offset, unsigned) override {
    return range * 0x10000 + offset;
  }
  void write_mmio(std::size_t range, std::uint64_t offset, unsigned size, std::uint64_t value) override {
    last_write = {range, offset, size, value};
  }
  std::array<std::uint64_t, 4> last_write{};

 private:
  std::vector<vdev::MmioRange> ranges_;
};

TEST(MmioMap, FindsTheRangeOfAnAddress) {
  RecordingDevice two({{0xfec01000, 0x100}, {0xd0000000, 0x1000}});
  RecordingDevice one({{0xfec00000, 0x1000}});
  MmioMap map;
  ASSERT_TRUE(map.add(two));
  ASSERT_TRUE(map.add(one));

  EXPECT_EQ(map.read(0xd0000ff8, 8), 0x10ff8u);
  EXPECT_EQ(map.read(0xfec00010, 4), 0x10u);
  EXPECT_EQ(map.read(0xfec01010, 4), 0x10u);
  map.write(0xd0000020, 2, 0xabcd);
  EXPECT_EQ(two.last_write, (std::array<std::uint64_t, 4>{1, 0x20, 2, 0xabcd}));
}

TEST(MmioMap, ReadsOnesOutsideAndAcrossTheEdgeOfARange) {
  RecordingDevice device({{0xfec00000, 0x1000}});
  MmioMap map;
  ASSERT_TRUE(map.add(device));
  EXPECT_EQ(map.read(0xfebfffff, 1), 0xffu);
  EXPECT_EQ(map.read(0xfec01000, 4), 0xffffffffu);
  EXPECT_EQ(map.read(0xfec00ffc, 8), UINT64_MAX);
  EXPECT_EQ(map.read(UINT64_MAX, 8), UINT64_MAX);
  map.write(0xfec00fff, 2, 1);
  EXPECT_EQ(device.last_write, (std::array<std::uint64_t, 4>{}));
}

TEST(MmioMap, RefusesRangesThatOverlap) {
  RecordingDevice first({{0x1000, 0x1000}});
  RecordingDevice overlapping({{0x5000, 0x1000}, {0x1800, 0x1000}});
  RecordingDevice empty({{0x9000, 0}});
  MmioMap map;
  ASSERT_TRUE(map.add(first));
  EXPECT_FALSE(map.add(overlapping));
  EXPECT_FALSE(map.add(empty));
  EXPECT_EQ(map.read(0x5000, 1), 0xffu);
}

}  // namespace
}  // namespace bulkhead::worker
