// SPDX-License-Identifier: Apache-2.0
//
// The engine conformance suite (tests/engine/conformance) where its engines are: native above our hypervisor, KVM
// without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/lab/machine.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;
using testing::Not;

struct EngineCase {
  std::string engine;
  Below below;
};

class EngineConforms : public testing::TestWithParam<EngineCase> {};

TEST_P(EngineConforms, ToTheSuite) {
  Machine machine({.below = GetParam().below});
  const std::string output = machine.must_run(
      "engine-conformance --gtest_color=no --gtest_filter='*/" + GetParam().engine + "'", Seconds(300));
  EXPECT_THAT(output, HasSubstr("[  PASSED  ]"));
  EXPECT_THAT(output, Not(HasSubstr("SKIPPED")));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineConforms,
                         testing::Values(EngineCase{"native", Below::Bulkhead}, EngineCase{"kvm", Below::Nothing}),
                         [](const auto& instance) { return instance.param.engine; });

}  // namespace
}  // namespace bulkhead::lab
