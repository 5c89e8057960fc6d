// SPDX-License-Identifier: Apache-2.0
#include "worker/unit_tree.hpp"

#include <gtest/gtest.h>

namespace bulkhead::worker {
namespace {

class LoggingUnit final : public state::StateUnit {
 public:
  LoggingUnit(std::string name, std::vector<std::string>& log) : name_(std::move(name)), log_(log) {}

  std::string_view name() const override { return name_; }
  void start() override { log_.push_back("start " + name_); }
  void stop() override { log_.push_back("stop " + name_); }
  void reset() override { value = 0; }
  state::SavedUnit save() const override { return state::SavedUnit(1).number("value", value); }
  Result<> restore(const state::SavedUnit& saved) override {
    state::SavedReader reader(saved, name_, 1);
    const auto number = reader.number("value", 9);
    if (auto complete = reader.finish(); !complete) return complete;
    value = number;
    return {};
  }
  void inspect(state::Inspection& node) const override { node.value("value", value); }

  std::uint64_t value = 0;

 private:
  std::string name_;
  std::vector<std::string>& log_;
};

class UnitTreeTest : public testing::Test {
 protected:
  std::vector<std::string> log_;
  LoggingUnit clock_{"clock", log_};
  LoggingUnit pit_{"pit", log_};
};

TEST_F(UnitTreeTest, StartsAUnitAfterThoseItUsesAndStopsItBefore) {
  UnitTree tree;
  ASSERT_TRUE(tree.add(clock_));
  ASSERT_TRUE(tree.add(pit_, {"clock"}));
  tree.start();
  tree.start();
  tree.stop();
  EXPECT_EQ(log_, (std::vector<std::string>{"start clock", "start pit", "stop pit", "stop clock"}));
}

TEST_F(UnitTreeTest, RefusesANameTwiceAndAUseOfWhatIsNotThere) {
  UnitTree tree;
  EXPECT_EQ(tree.add(pit_, {"clock"}).error().message(), "the state unit 'pit' uses 'clock', which is not there");
  ASSERT_TRUE(tree.add(clock_));
  EXPECT_EQ(tree.add(clock_).error().message(), "two state units are called 'clock'");
}

TEST_F(UnitTreeTest, RestoresWhatItSaved) {
  UnitTree tree;
  ASSERT_TRUE(tree.add(clock_));
  ASSERT_TRUE(tree.add(pit_));
  clock_.value = 3;
  pit_.value = 4;
  const auto saved = tree.save();
  tree.reset();
  EXPECT_EQ(pit_.value, 0u);
  ASSERT_TRUE(tree.restore(saved));
  EXPECT_EQ(clock_.value, 3u);
  EXPECT_EQ(pit_.value, 4u);
}

TEST_F(UnitTreeTest, AfterABadRestoreAllUnitsAreAsAtPowerOn) {
  UnitTree tree;
  ASSERT_TRUE(tree.add(clock_));
  ASSERT_TRUE(tree.add(pit_));
  state::SavedUnit bad(1);
  bad.list("clock", {state::SavedUnit(1).number("value", 5)});
  bad.list("pit", {state::SavedUnit(1).number("value", 10)});
  EXPECT_FALSE(tree.restore(bad));
  EXPECT_EQ(clock_.value, 0u);

  state::SavedUnit unknown = tree.save();
  unknown.list("tulip", {state::SavedUnit(1)});
  EXPECT_EQ(tree.restore(unknown).error().message(), "saved state of the machine: unknown field 'tulip'");
  EXPECT_FALSE(tree.restore(state::SavedUnit(1)));
}

TEST_F(UnitTreeTest, ShowsAllUnits) {
  UnitTree tree;
  ASSERT_TRUE(tree.add(clock_));
  ASSERT_TRUE(tree.add(pit_));
  state::Inspection node;
  tree.inspect(node);
  ASSERT_EQ(node.children().size(), 2u);
  EXPECT_EQ(node.children()[1].first, "pit");
  EXPECT_EQ(node.children()[1].second.values().size(), 1u);
}

}  // namespace
}  // namespace bulkhead::worker
