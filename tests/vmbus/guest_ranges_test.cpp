// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/vmbus/fake_guest.hpp"

namespace bulkhead::vmbus {
namespace {

Bytes list_of(std::initializer_list<std::uint64_t> numbers) {
  Bytes bytes;
  for (const auto number : numbers) {
    const Bytes part = bytes_of(number);
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

constexpr std::uint64_t head(std::uint32_t count, std::uint32_t offset) { return count | std::uint64_t{offset} << 32; }

TEST(GuestRanges, SeveralRangesAreOneStretchOfBytes) {
  FakeGuest guest;
  auto list = GuestRanges::parse(list_of({head(10, 4090), 3, 7, head(5, 0), 9}), 2);
  ASSERT_TRUE(list);
  EXPECT_EQ(list->byte_count(), 15u);
  EXPECT_EQ(list->page_count(), 3u);
  const Bytes text{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o'};
  ASSERT_TRUE(list->write(guest.memory(), 0, text));
  EXPECT_EQ((*guest.memory().at(3 * 4096 + 4095, 1))[0], 'f');
  EXPECT_EQ((*guest.memory().at(7 * 4096, 1))[0], 'g');
  EXPECT_EQ((*guest.memory().at(9 * 4096 + 4, 1))[0], 'o');
  Bytes back(9);
  ASSERT_TRUE(list->read(guest.memory(), 5, back));
  EXPECT_EQ(back, Bytes(text.begin() + 5, text.begin() + 14));
}

TEST(GuestRanges, NothingBeyondTheListIsTouched) {
  FakeGuest guest;
  auto list = GuestRanges::parse(list_of({head(16, 8), 3}), 1);
  ASSERT_TRUE(list);
  EXPECT_TRUE(list->write(guest.memory(), 16, {}));
  EXPECT_FALSE(list->write(guest.memory(), 16, Bytes(1)));
  EXPECT_FALSE(list->write(guest.memory(), 8, Bytes(9)));
  EXPECT_FALSE(list->segments(guest.memory(), UINT64_MAX, 1, false));
}

TEST(GuestRanges, NeighbouringPagesAreOneSegment) {
  FakeGuest guest;
  auto list = GuestRanges::parse(list_of({head(3 * 4096, 0), 5, 6, 8}), 1);
  ASSERT_TRUE(list);
  const auto segments = list->segments(guest.memory(), 0, 3 * 4096, true);
  ASSERT_TRUE(segments);
  ASSERT_EQ(segments->size(), 2u);
  EXPECT_EQ((*segments)[0].size(), 8192u);
}

TEST(GuestRanges, PagesThatAreNoMemoryAreAnError) {
  FakeGuest guest;
  for (const std::uint64_t page : {std::uint64_t{32} << 8, UINT64_MAX, UINT64_MAX / 4096, UINT64_MAX / 4096 + 1}) {
    auto list = GuestRanges::parse(list_of({head(8, 0), page}), 1);
    ASSERT_TRUE(list);
    Bytes bytes(8);
    EXPECT_FALSE(list->read(guest.memory(), 0, bytes)) << page;
    EXPECT_FALSE(list->segments(guest.memory(), 0, 8, false)) << page;
  }
}

}  // namespace
}  // namespace bulkhead::vmbus
