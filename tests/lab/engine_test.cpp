// SPDX-License-Identifier: Apache-2.0
//
// The engine conformance suite (tests/engine/conformance) where its engines are: native above our hypervisor, KVM
// without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class EngineConforms : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, EngineConforms, every_engine(), engine_name);

TEST_P(EngineConforms, ToTheSuite) {
  MachineSettings with_xsave = settings();
  with_xsave.xsave = true;
  Machine machine(with_xsave);
  const std::string output =
      machine.must_run("engine-conformance --gtest_color=no --gtest_filter='*/" + engine() + "'", Seconds(300));
  EXPECT_THAT(output, HasSubstr("[  PASSED  ]"));
  // The whole engine must be there: of what it can do nothing is left out.
  EXPECT_THAT(output, ContainsRegex("Conformance.PortWritesCarryPortSizeAndData/" + engine() + " \\([0-9]+ ms\\)"));
  EXPECT_THAT(output, Not(HasSubstr("no engine can run a machine here")));
  EXPECT_THAT(output, Not(ContainsRegex("SKIPPED . Engines/(SavedState|DirtyPages)")));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST_P(EngineConforms, AndHostInformationSaysThatItWorks) {
  Machine machine(settings());
  const std::string information = machine.must_run("bulkhead host info");
  EXPECT_THAT(information, ContainsRegex("engine " + engine() + " +works"));
  // The other one does not, and says why in its line.
  const std::string other = engine() == "kvm" ? "native" : "kvm";
  EXPECT_THAT(information,
              ContainsRegex("engine " + other + " +no: [^\n]*/dev/" + (other == "kvm" ? "kvm" : "bulkhead")));
}

}  // namespace
}  // namespace bulkhead::lab
