// SPDX-License-Identifier: Apache-2.0
#include "vdev/power_management.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

using namespace std::chrono_literals;

class PowerManagementTest : public ::testing::Test {
 protected:
  PowerManagementTest() { power_.start(); }
  std::uint32_t in(std::uint16_t port, unsigned size) { return power_.read_port(port, size); }
  void out(std::uint16_t port, unsigned size, std::uint32_t value) { power_.write_port(port, size, value); }

  FakeClock clock_;
  FakeLine line_;
  FakeMachine machine_;
  PowerManagement power_{line_, clock_, machine_};
};

TEST_F(PowerManagementTest, IsAlwaysInAcpiMode) {
  EXPECT_EQ(in(0x604, 2) & 1, 1u);
  out(0x604, 2, 0);
  EXPECT_EQ(in(0x604, 2) & 1, 1u);
}

// ACPICA writes SLP_TYP first, then SLP_TYP and SLP_EN.
TEST_F(PowerManagementTest, SoftOffPowersOff) {
  out(0x604, 2, 5 << 10);
  EXPECT_TRUE(machine_.power_offs.empty());
  out(0x604, 2, 5 << 10 | 1 << 13);
  EXPECT_EQ(machine_.power_offs, std::vector<std::string>{"ACPI soft-off"});
  EXPECT_EQ(in(0x604, 2), 5u << 10 | 1);  // SLP_EN reads 0
}

TEST_F(PowerManagementTest, OtherSleepTypesDoNothing) {
  for (std::uint32_t type : {0, 1, 2, 3, 4, 6, 7}) out(0x604, 2, type << 10 | 1 << 13);
  EXPECT_TRUE(machine_.power_offs.empty());
}

TEST_F(PowerManagementTest, PowerButtonRaisesTheSciUntilCleared) {
  power_.press_power_button();
  EXPECT_FALSE(line_.high());
  out(0x602, 2, 1 << 8);
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(in(0x600, 2), 1u << 8);
  out(0x600, 2, 1 << 8);
  EXPECT_FALSE(line_.high());
  power_.press_power_button();
  EXPECT_TRUE(line_.high());
}

TEST_F(PowerManagementTest, GeneralEventsAreReadAndClearedByByte) {
  power_.raise_general_event(9);
  power_.raise_general_event(16);
  EXPECT_EQ(in(0x621, 1), 0x02u);
  EXPECT_FALSE(line_.high());
  out(0x623, 1, 0x02);
  EXPECT_TRUE(line_.high());
  out(0x621, 1, 0x02);
  EXPECT_FALSE(line_.high());
  EXPECT_EQ(in(0x620, 4), 0x0200'0000u);
}

TEST_F(PowerManagementTest, TheTimerRunsAt3579545Hz) {
  const std::uint32_t before = in(0x608, 4);
  clock_.advance(1s);
  EXPECT_EQ(in(0x608, 4) - before, 3'579'545u);
  EXPECT_EQ(in(0x60a, 1), 3'579'545u >> 16);
  out(0x608, 4, 0);
  EXPECT_EQ(in(0x608, 4), 3'579'545u);
}

TEST_F(PowerManagementTest, TheHighestBitsChangeIsItsOverflow) {
  clock_.advance(599s);
  EXPECT_EQ(in(0x600, 2) & 1, 0u);
  clock_.advance(2s);
  EXPECT_EQ(in(0x600, 2) & 1, 1u);
  EXPECT_FALSE(line_.high());
  out(0x600, 2, 1);
  out(0x602, 2, 1);
  clock_.advance(598s);
  EXPECT_FALSE(line_.high());
  clock_.advance(2s);
  EXPECT_TRUE(line_.high());
  EXPECT_LT(in(0x608, 4), 3'579'545u * 3);  // turned at 32 bits
}

TEST_F(PowerManagementTest, HolesReadAsNothing) {
  EXPECT_EQ(in(0x606, 2), 0u);
  out(0x606, 2, 0xffff);
  out(0x603, 4, 0xffff'ffff);
  in(0x60b, 4);
}

TEST_F(PowerManagementTest, GoesOnInAnotherInstance) {
  out(0x602, 2, 1 << 8 | 1);
  power_.press_power_button();
  clock_.advance(5s);
  FakeClock clock;
  FakeLine line;
  FakeMachine machine;
  PowerManagement other(line, clock, machine);
  transplant(power_, other);
  other.start();
  EXPECT_EQ(other.read_port(0x608, 4), in(0x608, 4));
  other.write_port(0x600, 2, 1 << 8);
  EXPECT_FALSE(line.high());
  clock.advance(595s);
  EXPECT_TRUE(line.high());
  expect_foreign_state_refused(other);
  other.reset();
  EXPECT_FALSE(line.high());
  EXPECT_EQ(other.read_port(0x608, 4), 0u);
}

}  // namespace
}  // namespace bulkhead::vdev
