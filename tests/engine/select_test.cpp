// SPDX-License-Identifier: Apache-2.0
#include "engine/select.hpp"

#include <gtest/gtest.h>

#include "engine/kvm/kvm_engine.hpp"

namespace bulkhead::engine {
namespace {

TEST(Select, AnUnknownNameIsRefusedWithTheKnownOnes) {
  const auto engine = select_engine("xen");
  ASSERT_FALSE(engine.has_value());
  EXPECT_NE(engine.error().message().find("native, kvm or auto"), std::string::npos);
}

TEST(Select, EveryEngineIsListedAndWorksAsTheListSays) {
  const auto availabilities = available_engines();
  ASSERT_EQ(availabilities.size(), 2u);
  for (const auto& availability : availabilities) {
    const auto engine = select_engine(availability.name);
    EXPECT_EQ(engine.has_value(), availability.obstacle.empty());
    if (!engine) {
      EXPECT_NE(engine.error().message().find(availability.obstacle), std::string::npos);
      EXPECT_EQ(engine.error().message().find('\n'), std::string::npos);
    }
    // An engine that is not waited for says the same in the end.
    const auto untried = select_engine(availability.name, TryOut::WithFirstPartition);
    if (!untried) continue;
    const auto partition = (*untried)->create_partition({});
    EXPECT_EQ(partition.has_value(), availability.obstacle.empty());
    if (!partition) {
      EXPECT_EQ(partition.error().message(), availability.obstacle);
    }
  }
}

TEST(KvmEngine, AFileThatIsNotKvmIsRefused) {
  EXPECT_FALSE(kvm::open_engine_at("/dev/null").has_value());
  const auto engine = kvm::open_engine_at("/nonexistent");
  ASSERT_FALSE(engine.has_value());
  EXPECT_NE(engine.error().message().find("/nonexistent"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::engine
