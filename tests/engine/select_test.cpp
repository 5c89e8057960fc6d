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
    const auto works = engine ? (*engine)->try_out() : std::unexpected(engine.error());
    EXPECT_EQ(works.has_value(), availability.obstacle.empty());
    if (!works) {
      EXPECT_NE(works.error().message().find(availability.obstacle), std::string::npos);
      EXPECT_EQ(works.error().message().find('\n'), std::string::npos);
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
