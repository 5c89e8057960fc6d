// SPDX-License-Identifier: Apache-2.0
#include "vdev/i8042.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

class I8042Test : public ::testing::Test {
 protected:
  void command(std::uint32_t value) { controller_.write_port(0x64, 1, value); }
  void data(std::uint32_t value) { controller_.write_port(0x60, 1, value); }
  std::uint32_t status() { return controller_.read_port(0x64, 1); }
  std::uint32_t answer() {
    EXPECT_TRUE(status() & 1);
    return controller_.read_port(0x60, 1);
  }

  FakeLine line_;
  FakeMachine machine_;
  I8042 controller_{line_, machine_};
};

// Linux: i8042_flush, i8042_controller_check, i8042_controller_selftest, i8042_controller_init.
TEST_F(I8042Test, LinuxFindsAnEmptyController) {
  EXPECT_EQ(status() & 0x01, 0u);
  EXPECT_NE(status(), 0xffu);
  command(0xaa);
  EXPECT_EQ(answer(), 0x55u);
  command(0x20);
  const std::uint32_t control = answer();
  EXPECT_TRUE(status() & 0x10);  // not locked
  command(0x60);
  data(control | 0x10);
  command(0x20);
  EXPECT_EQ(answer(), control | 0x10);
  command(0xab);
  EXPECT_EQ(answer(), 0x00u);
}

// i8042_check_aux: what is looped through the second port does not come back, and its test fails.
TEST_F(I8042Test, LinuxFindsNoSecondPort) {
  command(0xd3);
  data(0x5a);
  EXPECT_NE(answer(), 0x5au);
  command(0xa9);
  const std::uint32_t result = answer();
  EXPECT_TRUE(result != 0x00 && result != 0xfa && result != 0xff);
}

TEST_F(I8042Test, AnAbsentKeyboardTimesOutAtOnce) {
  command(0x60);
  data(0x01);
  data(0xf2);  // identify
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(status() & 0x41, 0x41u);
  EXPECT_EQ(answer(), 0xfeu);
  EXPECT_FALSE(line_.high());
  EXPECT_EQ(status() & 0x41, 0u);
}

TEST_F(I8042Test, ResetByCommandAndByOutputPort) {
  command(0xfe);
  command(0xd1);
  data(0x02);
  EXPECT_EQ(machine_.resets.size(), 2u);
  EXPECT_EQ(machine_.resets[0], "keyboard controller");
  command(0xff);  // pulses nothing
  EXPECT_EQ(machine_.resets.size(), 2u);
}

TEST_F(I8042Test, A20IsABitOfTheOutputPort) {
  command(0xd0);
  EXPECT_EQ(answer() & 3, 3u);
  command(0xd1);
  data(0xdd);
  command(0xd0);
  EXPECT_EQ(answer(), 0xddu);
  EXPECT_TRUE(machine_.resets.empty());
}

TEST_F(I8042Test, AnyGuestInput) {
  for (std::uint32_t c = 0; c < 0x100; ++c) {
    for (std::uint32_t d = 0; d < 0x100; d += 5) {
      command(c);
      data(d);
      controller_.read_port(0x60, 4);
    }
  }
}

TEST_F(I8042Test, GoesOnInAnotherInstance) {
  command(0x60);
  data(0x01);
  command(0xd2);
  data(0x1c);
  command(0xd1);
  FakeLine line;
  FakeMachine machine;
  I8042 other(line, machine);
  transplant(controller_, other);
  EXPECT_EQ(other.read_port(0x60, 1), 0x1cu);
  other.write_port(0x60, 1, 0x00);
  EXPECT_EQ(machine.resets.size(), 1u);
  expect_foreign_state_refused(other);
}

}  // namespace
}  // namespace bulkhead::vdev
