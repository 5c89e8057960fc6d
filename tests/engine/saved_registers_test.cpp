// SPDX-License-Identifier: Apache-2.0
#include "engine/saved_registers.hpp"

#include <gtest/gtest.h>

namespace bulkhead::engine {
namespace {

using abi::RegisterName;

state::SavedBytes saved_bytes(const std::vector<RegisterAssignment>& registers) {
  state::SavedUnit unit(1);
  save_registers(unit, "registers", registers);
  return std::get<state::SavedBytes>(unit.fields().at("registers"));
}

struct SavedRegisters : testing::Test {
  static constexpr std::array kNames = {RegisterName::Rax, RegisterName::Cs};
  SavedRegisters() {
    registers[0].value.raw = {.low = 0x1122334455667788, .high = 0};
    registers[1].value.segment = {.base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attributes = 0x9b};
  }
  std::vector<RegisterAssignment> registers = assignments_for(kNames);
  std::vector<RegisterAssignment> read = assignments_for(kNames);
};

TEST_F(SavedRegisters, AreReadAsTheyWereSaved) {
  ASSERT_TRUE(read_saved_registers(saved_bytes(registers), read).has_value());
  EXPECT_EQ(read[0].value.number, 0x1122334455667788u);
  EXPECT_EQ(read[1].value.segment, registers[1].value.segment);
}

TEST_F(SavedRegisters, OthersThanExpectedAreRefused) {
  std::vector<RegisterAssignment> others = assignments_for(std::array{RegisterName::Rax, RegisterName::Ds});
  const auto result = read_saved_registers(saved_bytes(registers), others);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message().find("0x60001"), std::string::npos) << result.error().message();
}

TEST_F(SavedRegisters, CutShortAreRefused) {
  auto bytes = saved_bytes(registers);
  bytes.pop_back();
  EXPECT_FALSE(read_saved_registers(bytes, read).has_value());
}

}  // namespace
}  // namespace bulkhead::engine
