// SPDX-License-Identifier: Apache-2.0
#include "worker/disk_option.hpp"

#include <gtest/gtest.h>

namespace bulkhead::worker {
namespace {

std::string error_of(std::string_view text) {
  auto option = parse_disk_option(text);
  return option ? "" : option.error().message();
}

TEST(DiskOption, WhatTheStarterWritesTheWorkerReads) {
  DiskOption option;
  option.bus = "ide";
  option.number = 3;
  option.format = "vhdx";
  option.read_only = true;
  option.iops = 100;
  option.bps = 1 << 20;
  option.files = {{.fd = 7, .path = "/a, \"b\".avhdx"}, {.fd = 8, .path = "/base.vhdx"}};
  const auto parsed = parse_disk_option(to_text(option));
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(*parsed, option);
  option.number.reset();
  EXPECT_EQ(*parse_disk_option(to_text(option)), option);
}

TEST(DiskOption, SaysWhatIsWrong) {
  EXPECT_EQ(error_of("disk"), "it is no JSON object");
  EXPECT_EQ(error_of("{}"), "a disk needs 'files'");
  EXPECT_EQ(error_of(R"({"kind":"floppy"})"), "'kind' is none of disk, dvd");
  EXPECT_EQ(error_of(R"({"kind":"dvd","number":64})"), "'number' is not a number from 0 to 63");
  EXPECT_EQ(error_of(R"({"kind":"dvd","bus":"ide","number":4})"), "'number' is not a number from 0 to 3");
  EXPECT_EQ(error_of(R"({"kind":"dvd","iops":-1})"), "'iops' is not a number from 0 to 18446744073709551615");
  EXPECT_EQ(error_of(R"({"files":[{"path":"x"}]})"), "'files' has an entry without 'fd'");
  EXPECT_EQ(error_of(R"({"files":[{"fd":3,"path":"x"}],"colour":1})"), "it has a field that is unknown");
  EXPECT_EQ(error_of(R"({"kind":"dvd"})"), "") << "a drive without a disc";
}

}  // namespace
}  // namespace bulkhead::worker
