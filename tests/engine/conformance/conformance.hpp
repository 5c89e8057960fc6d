// SPDX-License-Identifier: Apache-2.0
//
// What the conformance tests of all subjects share: each runs on every engine that works here.
#pragma once

#include <memory>
#include <string>

#include "engine/select.hpp"
#include "tests/engine/conformance/guest_machine.hpp"

namespace bulkhead::engine {

using Words = std::vector<std::uint32_t>;

/// A test for each engine, by name. An engine that does not work here is skipped, with the reason.
class EngineTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto engine = select_engine(GetParam());
    if (!engine) GTEST_SKIP() << engine.error().message();
    if (auto tried = (*engine)->try_out(); !tried) GTEST_SKIP() << tried.error().message();
    engine_ = std::move(*engine);
  }
  std::unique_ptr<GuestMachine> make(const PartitionSettings& settings = {}) {
    auto machine = GuestMachine::create(*engine_, settings);
    EXPECT_TRUE(machine.has_value()) << machine.error().message();
    return machine ? std::move(*machine) : nullptr;
  }
  std::unique_ptr<Engine> engine_;
};

inline auto every_engine() { return testing::Values("native", "kvm"); }
inline std::string engine_name(const testing::TestParamInfo<const char*>& engine) { return engine.param; }

/// Messages to processor 0's local APIC.
constexpr abi::InterruptMessage fixed(std::uint8_t vector) { return {.address = 0xfee00000, .data = vector}; }
constexpr abi::InterruptMessage level(std::uint8_t vector) { return {.address = 0xfee00000, .data = 0xc000u | vector}; }
constexpr abi::InterruptMessage nmi() { return {.address = 0xfee00000, .data = 0x400}; }

}  // namespace bulkhead::engine
