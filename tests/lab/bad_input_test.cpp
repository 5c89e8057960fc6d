// SPDX-License-Identifier: Apache-2.0
//
// Bad input to `bulkhead run` gets one clear line and a status that is not 0.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

struct BadInput {
  std::string arguments;
  std::string fragment;  // of the line
};

class BadInputOnEngine : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, BadInputOnEngine, every_engine(), engine_name);

TEST_P(BadInputOnEngine, GetsOneLineAndAStatus) {
  Machine machine(settings());
  const std::string other = engine() == "native" ? "kvm" : "native";
  const std::string kernel = "--kernel /child/6.1-cloud/vmlinuz ";
  const std::vector<BadInput> cases = {
      {"", "--kernel"},
      {"--kernel /nothing", "/nothing"},
      {"--kernel /init", "cannot load '/init': the kernel is neither a Linux bzImage nor a Multiboot image"},
      {"--kernel /child", "/child"},
      {kernel + "--initrd /nothing", "/nothing"},
      {kernel + "--memory 1000G", "memory"},
      {kernel + "--memory 0", "memory"},
      {kernel + "--memory much", "much"},
      {kernel + "--vps 0", "0 processors"},
      {kernel + "--vps 9999", "9999 processors"},
      {kernel + "--engine " + other, other},
      {kernel + "--nonsense", "nonsense"},
  };
  for (const auto& [arguments, fragment] : cases) {
    SCOPED_TRACE(arguments);
    const Answer answer = machine.run("bulkhead run " + arguments + " </dev/null 2>&1");
    EXPECT_NE(answer.status, 0);
    EXPECT_EQ(std::ranges::count(answer.output, '\n'), 1) << answer.output;
    EXPECT_THAT(answer.output, testing::HasSubstr(fragment));
  }
  if (engine() == "native") {
    EXPECT_THAT(machine.must_run("hypervisor-information"), testing::HasSubstr("partitions 0\n"));
  }
}

TEST(BadInput, NoDriverIsSaid) {
  Machine machine;
  machine.must_run("rmmod bulkhead");
  const Answer answer = machine.run("bulkhead run --kernel /child/6.1-cloud/vmlinuz --engine native </dev/null 2>&1");
  EXPECT_NE(answer.status, 0);
  EXPECT_EQ(std::ranges::count(answer.output, '\n'), 1) << answer.output;
  EXPECT_THAT(answer.output, testing::HasSubstr("/dev/bulkhead"));
}

}  // namespace
}  // namespace bulkhead::lab
