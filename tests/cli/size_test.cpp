// SPDX-License-Identifier: Apache-2.0
#include "cli/size.hpp"

#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

TEST(Size, TakesANumberAndAPowerOf1024) {
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("512M"), 512ull << 20);
  EXPECT_EQ(parse_size("2g"), 2ull << 30);
  EXPECT_EQ(parse_size("64KiB"), 64ull << 10);
  EXPECT_EQ(parse_size("1TB"), 1ull << 40);
  EXPECT_EQ(parse_size("100B"), 100u);
}

TEST(Size, RefusesAnythingElse) {
  for (const auto* text : {"", "M", "0", "0M", "-1M", "1.5G", "12Q", "1 G", " 1G", "1G ", "1MM", "1iB", "1KBB", "0x10",
                           "18446744073709551616", "18446744073709551615K", "99999999T"}) {
    EXPECT_FALSE(parse_size(text).has_value()) << text;
  }
  EXPECT_EQ(parse_size("12Q").error().message(), "'12Q' is not a size; write for example 512M or 2G");
}

}  // namespace
}  // namespace bulkhead::cli
