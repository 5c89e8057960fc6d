// SPDX-License-Identifier: Apache-2.0
#include "state/saved_state.hpp"

#include <gtest/gtest.h>

namespace bulkhead::state {
namespace {

SavedUnit sample() {
  SavedUnit timer(3);
  timer.number("count", 0xffff).bytes("registers", std::array<std::uint8_t, 3>{1, 2, 3});
  SavedUnit unit(2);
  unit.number("mode", 5).list("timers", {timer, timer});
  return unit;
}

TEST(SavedUnit, ReadsBackWhatItWrote) {
  auto parsed = SavedUnit::parse(sample().serialize());
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message();
  EXPECT_EQ(*parsed, sample());
}

TEST(SavedUnit, RefusesEveryTruncationAndATrailingByte) {
  auto data = sample().serialize();
  for (std::size_t size = 0; size < data.size(); ++size) {
    EXPECT_FALSE(SavedUnit::parse(std::span(data).first(size)).has_value()) << size;
  }
  data.push_back(0);
  EXPECT_FALSE(SavedUnit::parse(data).has_value());
}

TEST(SavedUnit, RefusesDeepNesting) {
  SavedUnit unit(1);
  for (int i = 0; i < 20; ++i) {
    SavedUnit outer(1);
    outer.list("inner", {unit});
    unit = outer;
  }
  auto parsed = SavedUnit::parse(unit.serialize());
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().message(), "saved state is nested too deeply");
}

TEST(SavedReader, GivesFieldsAndFinishes) {
  const auto unit = sample();
  SavedReader reader(unit, "pit", 2);
  EXPECT_EQ(reader.number("mode", 5), 5u);
  EXPECT_EQ(reader.list("timers", 2).size(), 2u);
  EXPECT_TRUE(reader.finish().has_value());
}

TEST(SavedReader, ComplainsOfTheFirstThingThatIsWrong) {
  const auto unit = sample();
  SavedReader other_version(unit, "pit", 1);
  EXPECT_EQ(other_version.finish().error().message(), "saved state of pit: version 2 where 1 is known");

  SavedReader too_large(unit, "pit", 2);
  EXPECT_EQ(too_large.number("mode", 4), 0u);
  EXPECT_EQ(too_large.finish().error().message(), "saved state of pit: the field 'mode' is 5, at most 4 can be");

  SavedReader unread(unit, "pit", 2);
  unread.number("mode");
  EXPECT_EQ(unread.finish().error().message(), "saved state of pit: unknown field 'timers'");

  SavedReader missing(unit, "pit", 2);
  missing.number("mode");
  missing.list("timers", 2);
  missing.number("gate");
  EXPECT_EQ(missing.finish().error().message(), "saved state of pit: the field 'gate' is missing");

  SavedReader other_kind(unit, "pit", 2);
  other_kind.bytes("mode", 1);
  EXPECT_EQ(other_kind.finish().error().message(), "saved state of pit: the field 'mode' is of another kind");
}

}  // namespace
}  // namespace bulkhead::state
