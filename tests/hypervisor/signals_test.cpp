// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/signals.hpp"

#include <gtest/gtest.h>

namespace bulkhead::hypervisor {
namespace {

TEST(Signals, OneNmiIsSentForAllThatArePostedBeforeItIsTaken) {
  Signals signals;
  EXPECT_TRUE(signals.post(kSignalKick));
  EXPECT_FALSE(signals.post(kSignalStartup));
  const Signals::Taken taken = signals.take(true);
  EXPECT_TRUE(taken.explains_nmi);
  EXPECT_EQ(taken.bits, kSignalSent | kSignalKick | kSignalStartup);
  EXPECT_FALSE(signals.any());
  EXPECT_TRUE(signals.post(kSignalKick));
}

TEST(Signals, AnNmiWithoutASignalIsTheRoots) {
  Signals signals;
  EXPECT_FALSE(signals.take(true).explains_nmi);
}

TEST(Signals, AnNmiThatComesAfterItsSignalWasTakenIsNotTheRoots) {
  Signals signals;
  ASSERT_TRUE(signals.post(kSignalStartup));
  EXPECT_EQ(signals.take(false).bits, kSignalSent | kSignalStartup);
  const Signals::Taken late = signals.take(true);
  EXPECT_TRUE(late.explains_nmi);
  EXPECT_EQ(late.bits, 0u);
  EXPECT_FALSE(signals.take(true).explains_nmi);
}

TEST(Signals, LookingTwiceBeforeTheNmiDoesNotForgetIt) {
  Signals signals;
  ASSERT_TRUE(signals.post(kSignalKick));
  signals.take(false);
  signals.take(false);
  EXPECT_TRUE(signals.take(true).explains_nmi);
}

TEST(Signals, AnNmiThatGotLostKeepsNobodyFromSendingTheNext) {
  Signals signals;
  ASSERT_TRUE(signals.post(kSignalKick));
  signals.take(false);
  EXPECT_TRUE(signals.post(kSignalKick));
}

}  // namespace
}  // namespace bulkhead::hypervisor
