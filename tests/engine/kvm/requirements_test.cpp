// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_requirements.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "engine/kvm/kvm_abi.hpp"

namespace bulkhead::engine::kvm {
namespace {

using testing::HasSubstr;
using testing::Not;

/// A kernel that has everything but one capability.
ExtensionCheck kernel_without(int capability) {
  return [capability](int asked) { return asked == capability ? 0 : 1; };
}

TEST(KvmRequirements, AKernelWithEverythingIsAccepted) {
  EXPECT_TRUE(check_requirements([](int) { return 1; }).has_value());
}

TEST(KvmRequirements, AnOldKernelIsToldWhichLinuxHasWhatItLacks) {
  const auto checked = check_requirements(kernel_without(KVM_CAP_IMMEDIATE_EXIT));
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().message(), "this kernel's KVM lacks immediate exits; Linux 4.13 has it");
}

TEST(KvmRequirements, ABuildWithoutHyperVIsNamed) {
  const auto checked = check_requirements(kernel_without(KVM_CAP_HYPERV));
  ASSERT_FALSE(checked.has_value());
  EXPECT_THAT(checked.error().message(), HasSubstr("CONFIG_KVM_HYPERV"));
}

TEST(KvmRequirements, AnAnswerThatIsAnErrorIsNoCapability) {
  EXPECT_FALSE(check_requirements([](int) { return -1; }).has_value());
}

TEST(KvmRequirements, SynicsNeedTheFilterThatTellsOfEndsOfMessages) {
  EXPECT_TRUE(has_synic([](int) { return 1; }));
  EXPECT_FALSE(has_synic(kernel_without(KVM_CAP_X86_MSR_FILTER)));
  EXPECT_FALSE(has_synic(kernel_without(KVM_CAP_HYPERV_SYNIC2)));
}

TEST(KvmRequirements, SavedStateNeedsAClockThatGoesByTheTimeOfDay) {
  EXPECT_FALSE(has_saved_state(kernel_without(KVM_CAP_XCRS)));
  const auto clock = [](int flags) { return [flags](int asked) { return asked == KVM_CAP_ADJUST_CLOCK ? flags : 1; }; };
  EXPECT_FALSE(has_saved_state(clock(KVM_CLOCK_TSC_STABLE)));  // Linux 5.15
  EXPECT_TRUE(has_saved_state(clock(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME)));
}

TEST(KvmRequirements, AMissingDeviceIsExplainedByProcessorOrModule) {
  EXPECT_THAT(explain_open_failure("/dev/kvm", ENOENT, false), HasSubstr("neither SVM nor VMX"));
  EXPECT_THAT(explain_open_failure("/dev/kvm", ENOENT, true), HasSubstr("kvm-amd or kvm-intel is not loaded"));
  EXPECT_THAT(explain_open_failure("/dev/kvm", EACCES, true), HasSubstr("group kvm"));
  EXPECT_THAT(explain_open_failure("/dev/kvm", EMFILE, true), Not(HasSubstr("module")));
  EXPECT_THAT(explain_open_failure("/dev/kvm", EMFILE, true), HasSubstr("/dev/kvm"));
}

}  // namespace
}  // namespace bulkhead::engine::kvm
