// SPDX-License-Identifier: Apache-2.0
#include "worker/port_map.hpp"

#include <gtest/gtest.h>

namespace bulkhead::worker {
namespace {

/// Remembers the accesses that reach it, and reads as the low byte of the port in each byte.
class RecordingDevice final : public vdev::PortDevice {
 public:
  struct Access {
    std::uint16_t port;
    unsigned size;
    std::uint32_t value;
    bool operator==(const Access&) const = default;
  };

  explicit RecordingDevice(std::vector<vdev::PortRange> ports) : ports_(std::move(ports)) {}
  std::span<const vdev::PortRange> ports() const override { return ports_; }
  std::uint32_t read_port(std::uint16_t port, unsigned size) override {
    reads.push_back({port, size, 0});
    return (0x01010101u * (port & 0xff)) & (UINT32_MAX >> (32 - 8 * size));
  }
  void write_port(std::uint16_t port, unsigned size, std::uint32_t value) override {
    writes.push_back({port, size, value});
  }

  std::vector<Access> reads;
  std::vector<Access> writes;

 private:
  std::vector<vdev::PortRange> ports_;
};

TEST(PortMap, SendsAnAccessToTheDeviceOfThePort) {
  RecordingDevice serial({{0x3f8, 0x3ff}});
  RecordingDevice pic({{0x20, 0x21}, {0xa0, 0xa1}});
  PortMap map;
  ASSERT_TRUE(map.add(serial));
  ASSERT_TRUE(map.add(pic));

  map.write(0x3f8, 1, 'a');
  EXPECT_EQ(map.read(0xa1, 1), 0xa1u);
  EXPECT_EQ(serial.writes, (std::vector<RecordingDevice::Access>{{0x3f8, 1, 'a'}}));
  EXPECT_EQ(pic.reads, (std::vector<RecordingDevice::Access>{{0xa1, 1, 0}}));
}

TEST(PortMap, ReadsOnesWhereThereIsNoDevice) {
  PortMap map;
  EXPECT_EQ(map.read(0x60, 1), 0xffu);
  EXPECT_EQ(map.read(0x60, 2), 0xffffu);
  EXPECT_EQ(map.read(0xffff, 4), 0xffffffffu);
  map.write(0xffff, 4, 1);
}

TEST(PortMap, SplitsAnAccessThatCrossesTheEdgeOfADevice) {
  RecordingDevice low({{0x20, 0x21}});
  RecordingDevice high({{0x23, 0x23}, {0xffff, 0xffff}});
  PortMap map;
  ASSERT_TRUE(map.add(low));
  ASSERT_TRUE(map.add(high));

  EXPECT_EQ(map.read(0x20, 4), 0x23ff2120u);
  map.write(0x21, 4, 0x44332211);
  EXPECT_EQ(low.writes, (std::vector<RecordingDevice::Access>{{0x21, 1, 0x11}}));
  EXPECT_EQ(high.writes, (std::vector<RecordingDevice::Access>{{0x23, 1, 0x33}}));
  EXPECT_EQ(map.read(0xffff, 2), 0xffffu);
}

TEST(PortMap, RefusesTwoDevicesAtOnePort) {
  RecordingDevice first({{0x3f8, 0x3ff}});
  RecordingDevice second({{0x2f8, 0x2ff}, {0x3ff, 0x400}});
  PortMap map;
  ASSERT_TRUE(map.add(first));
  auto added = map.add(second);
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.error().message(), "two devices want the port 0x3ff");
  EXPECT_EQ(map.find(0x2f8), nullptr);
}

}  // namespace
}  // namespace bulkhead::worker
