// SPDX-License-Identifier: Apache-2.0
//
// Two busy children with two processors each, side by side on a machine with two: nobody loses time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

class Load : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, Load, every_engine(), engine_name);

TEST_P(Load, TwoChildrenOfTwoProcessorsForAMinute) {
  Machine machine(settings());
  const std::string child =
      command_of(LinuxChild{.engine = engine(), .vps = 2, .mode = "load", .words = "child.seconds=60"});
  machine.must_run("(" + child + ") >/tmp/first 2>&1 & (" + child + ") >/tmp/second 2>&1 & wait", Seconds(400));
  EXPECT_THAT(machine.must_run("cat /tmp/first"), testing::HasSubstr("child: load: good"));
  EXPECT_THAT(machine.must_run("cat /tmp/second"), testing::HasSubstr("child: load: good"));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

}  // namespace
}  // namespace bulkhead::lab
