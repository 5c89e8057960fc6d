// SPDX-License-Identifier: Apache-2.0
//
// What the comparison with the processor cannot reach: other modes, faults, repetition, what is refused.
#include "engine/emulator/emulator.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace bulkhead::engine::emulator {
namespace {

constexpr std::uint64_t kCode = 0x1000, kDevice = 0x100000;

class NoVectors final : public VectorRegisters {
 public:
  bool read(unsigned, std::span<std::uint8_t, 16>) override { return false; }
  bool write(unsigned, std::span<const std::uint8_t, 16>, bool) override { return false; }
};

/// 64 KiB of memory, no paging; a device is everything above.
class EmulatorTest : public testing::Test {
 protected:
  void SetUp() override {
    const GuestMemory::Range range{.base = 0, .size = 0x10000};
    memory_ = GuestMemory::allocate(std::span(&range, 1)).value();
    emulator_ = std::make_unique<Emulator>(*memory_, vectors_);
    state_.rip = kCode;
    state_.rflags = 2;
    flat_32_bit();
  }
  void flat_32_bit() {
    for (auto& segment : state_.segments)
      segment = {.base = 0, .limit = 0xffffffff, .selector = 0x10, .attributes = 0xc093};
    state_.segments[kCs].attributes = 0xc09b;
    state_.cr0 = kCr0ProtectionEnable;
  }
  void real_mode() {
    for (auto& segment : state_.segments) segment = {.base = 0, .limit = 0xffff, .selector = 0, .attributes = 0x93};
    state_.segments[kCs].attributes = 0x9b;
    state_.cr0 = 0;
  }
  void code(std::vector<std::uint8_t> bytes) { ASSERT_TRUE(memory_->write(kCode, bytes)); }
  Step begin() { return emulator_->begin(state_); }
  void expect_fault(const Step& step, int vector, std::uint32_t error_code = 0) {
    ASSERT_TRUE(std::holds_alternative<Fault>(step)) << step.index();
    EXPECT_EQ(std::get<Fault>(step).vector, vector);
    EXPECT_EQ(std::get<Fault>(step).error_code, error_code);
    EXPECT_EQ(state_.rip, kCode);
  }
  static bool is_done(const Step& step) { return std::holds_alternative<Completed>(step); }

  std::unique_ptr<GuestMemory> memory_;
  NoVectors vectors_;
  std::unique_ptr<Emulator> emulator_;
  ProcessorState state_{};
};

TEST_F(EmulatorTest, RealModeAddsTheSegmentsBase) {
  real_mode();
  state_.segments[kDs].base = 0xfff0000;
  state_.general[3] = 0x8;
  code({0x8b, 0x47, 0x10});  // MOV 16(%bx), %ax
  const auto access = std::get<MemoryAccess>(begin());
  EXPECT_EQ(access.address, 0xfff0018u);
  EXPECT_EQ(access.size, 2);
  state_.general[0] = 0xaaaabbbb;
  EXPECT_TRUE(is_done(emulator_->resume(0x1234)));
  EXPECT_EQ(state_.general[0], 0xaaaa1234u);
  EXPECT_EQ(state_.rip, kCode + 3);
}

TEST_F(EmulatorTest, SixteenBitAddressesWrap) {
  real_mode();
  state_.segments[kDs].base = kDevice;
  state_.general[3] = 0xfffe;
  state_.general[6] = 0x12;
  code({0x8a, 0x00});  // MOV (%bx,%si), %al
  EXPECT_EQ(std::get<MemoryAccess>(begin()).address, kDevice + 0x10);
}

TEST_F(EmulatorTest, SegmentOverridesCount) {
  state_.segments[kFs].base = kDevice;
  code({0x64, 0xa1, 0x10, 0, 0, 0});  // MOV %fs:0x10, %eax
  EXPECT_EQ(std::get<MemoryAccess>(begin()).address, kDevice + 0x10);
}

TEST_F(EmulatorTest, LimitsAndTypesOfSegmentsAreChecked) {
  code({0x89, 0x03});  // MOV %eax, (%ebx)
  state_.general[3] = 0x2000;
  state_.segments[kDs].limit = 0x2002;
  expect_fault(begin(), 13);
  state_.segments[kDs].limit = 0x2003;
  EXPECT_TRUE(is_done(begin()));
  state_.rip = kCode;
  state_.segments[kDs].attributes = 0xc091;  // read only
  expect_fault(begin(), 13);
  state_.segments[kDs].attributes = 0xc097;  // expands down: only above its limit
  expect_fault(begin(), 13);
  state_.general[3] = 0x3000;
  EXPECT_TRUE(is_done(begin()));
  state_.rip = kCode;
  state_.segments[kDs].attributes = 0xc013;  // not present
  expect_fault(begin(), 13);
}

TEST_F(EmulatorTest, AStackSegmentHasAFaultOfItsOwn) {
  code({0x89, 0x45, 0x00});  // MOV %eax, (%ebp)
  state_.general[5] = 0x2000;
  state_.segments[kSs].limit = 0xfff;
  expect_fault(begin(), 12);
}

TEST_F(EmulatorTest, UnalignedUserAccessesFaultWhereThatIsAskedFor) {
  code({0x8b, 0x03});
  state_.general[3] = kDevice + 1;
  state_.cr0 |= kCr0AlignmentMask;
  state_.rflags |= kAlignmentCheck;
  EXPECT_TRUE(std::holds_alternative<MemoryAccess>(begin()));
  state_.segments[kSs].attributes |= 3 << 5;
  expect_fault(begin(), 17);
}

TEST_F(EmulatorTest, ARepetitionIsCompleteInItself) {
  code({0xf3, 0xa4});  // REP MOVSB
  ASSERT_TRUE(memory_->write(0x2000, std::vector<std::uint8_t>{1, 2, 3}));
  state_.general[1] = 3;
  state_.general[6] = 0x2000;
  state_.general[7] = kDevice;
  EXPECT_EQ(std::get<MemoryAccess>(begin()).data, 1u);
  EXPECT_EQ(std::get<MemoryAccess>(emulator_->resume()).data, 2u);
  EXPECT_EQ(state_.general[1], 2u);
  EXPECT_EQ(state_.general[6], 0x2001u);
  EXPECT_EQ(state_.rip, kCode);
  EXPECT_EQ(std::get<MemoryAccess>(emulator_->resume()).data, 3u);
  EXPECT_TRUE(is_done(emulator_->resume()));
  EXPECT_EQ(state_.rip, kCode + 2);
}

TEST_F(EmulatorTest, LongRepetitionsLetInterruptsIn) {
  code({0xf3, 0xaa});  // REP STOSB
  state_.general[1] = 100000;
  state_.general[7] = kDevice;
  Step step = begin();
  int accesses = 0;
  while (std::holds_alternative<MemoryAccess>(step)) {
    ++accesses;
    step = emulator_->resume();
  }
  EXPECT_TRUE(is_done(step));
  EXPECT_LE(accesses, 256);
  EXPECT_EQ(state_.rip, kCode);
  EXPECT_EQ(state_.general[1], 100000u - static_cast<unsigned>(accesses));
}

TEST_F(EmulatorTest, ARepetitionWithCountZeroDoesNothing) {
  code({0xf3, 0xa4});
  state_.general[7] = kDevice;
  EXPECT_TRUE(is_done(begin()));
  EXPECT_EQ(state_.rip, kCode + 2);
  EXPECT_EQ(state_.general[7], kDevice);
}

TEST_F(EmulatorTest, RepneOnAMoveRepeatsToo) {
  code({0xf2, 0xa4});
  state_.general[1] = 2;
  state_.general[6] = 0x2000;
  state_.general[7] = kDevice;
  EXPECT_TRUE(std::holds_alternative<MemoryAccess>(begin()));
  EXPECT_TRUE(std::holds_alternative<MemoryAccess>(emulator_->resume()));
  EXPECT_TRUE(is_done(emulator_->resume()));
  EXPECT_EQ(state_.general[1], 0u);
}

TEST_F(EmulatorTest, SingleStepIsToldAfterEachRepetition) {
  code({0xf3, 0xaa});
  state_.rflags |= kTrap;
  state_.general[1] = 2;
  state_.general[7] = kDevice;
  begin();
  EXPECT_TRUE(std::get<Completed>(emulator_->resume()).single_step);
  EXPECT_EQ(state_.rip, kCode);
  begin();
  EXPECT_TRUE(std::get<Completed>(emulator_->resume()).single_step);
  EXPECT_EQ(state_.rip, kCode + 2);
}

TEST_F(EmulatorTest, PortsAreReadIntoMemory) {
  code({0xf3, 0x6d});  // REP INSL
  state_.general[1] = 2;
  state_.general[2] = 0x1f0;
  state_.general[7] = 0x2000;
  const auto port = std::get<PortAccess>(begin());
  EXPECT_EQ(port.port, 0x1f0);
  EXPECT_EQ(port.size, 4);
  EXPECT_FALSE(port.write);
  EXPECT_TRUE(std::holds_alternative<PortAccess>(emulator_->resume(0x11111111)));
  EXPECT_TRUE(is_done(emulator_->resume(0x22222222)));
  std::uint64_t stored = 0;
  std::memcpy(&stored, memory_->at(0x2000, 8)->data(), 8);
  EXPECT_EQ(stored, 0x2222222211111111u);
}

TEST_F(EmulatorTest, APortIsNotReadWhenMemoryWouldFault) {
  code({0x6c});  // INSB
  state_.general[7] = 0x2000;
  state_.segments[kEs].limit = 0x1fff;
  expect_fault(begin(), 13);
}

TEST_F(EmulatorTest, ADeviceIsNotReadWhenTheStackWouldFault) {
  code({0xff, 0x33});  // PUSHL (%ebx)
  state_.general[3] = kDevice;
  state_.general[4] = 0x3000;
  state_.segments[kSs].limit = 0x100;
  expect_fault(begin(), 12);
}

TEST_F(EmulatorTest, AnInstructionAcrossTwoPagesIsFetchedFromBoth) {
  state_.rip = 0x1ffd;
  ASSERT_TRUE(memory_->write(0x1ffd, std::vector<std::uint8_t>{0xc7, 0x05, 0x00, 0x00, 0x10, 0x00, 1, 2, 3, 4}));
  const auto access = std::get<MemoryAccess>(begin());
  EXPECT_EQ(access.address, kDevice);
  EXPECT_EQ(access.data, 0x04030201u);
}

TEST_F(EmulatorTest, ChangedCodeIsDecodedAnew) {
  state_.general[3] = kDevice;
  code({0x8b, 0x03});
  EXPECT_FALSE(std::get<MemoryAccess>(begin()).write);
  code({0x89, 0x03});
  EXPECT_TRUE(std::get<MemoryAccess>(begin()).write);
  code({0x88, 0x03});
  EXPECT_EQ(std::get<MemoryAccess>(begin()).size, 1);
}

TEST_F(EmulatorTest, WhatItDoesNotKnowIsUnsupported) {
  for (const auto& bytes : {std::vector<std::uint8_t>{0x0f, 0xae, 0x03},  // FXSAVE
                            std::vector<std::uint8_t>{0xd8, 0x03},        // FADD
                            std::vector<std::uint8_t>{0xff, 0x13},        // CALL (%ebx)
                            std::vector<std::uint8_t>{0xf7, 0x23},        // MUL
                            std::vector<std::uint8_t>{0x0f, 0x10, 0x03},  // MOVUPS without vector registers
                            std::vector<std::uint8_t>{0x0f, 0x0b}}) {     // UD2
    state_.general[3] = kDevice;
    code(bytes);
    Step step = begin();
    while (std::holds_alternative<MemoryAccess>(step)) step = emulator_->resume(0);
    EXPECT_TRUE(std::holds_alternative<Unsupported>(step));
    EXPECT_EQ(state_.rip, kCode);
  }
  EXPECT_NE(emulator_->describe().find("0f 0b"), std::string::npos);
}

TEST_F(EmulatorTest, TheHintSavesTheWalkForItsPageOnly) {
  code({0x8b, 0x03});
  state_.general[3] = kDevice + 0x10;
  const Step step = emulator_->begin(state_, {.address = 0xabc00010, .is_operand = true, .is_fetch = false});
  EXPECT_EQ(std::get<MemoryAccess>(step).address, 0xabc00010u);
  const Step other = emulator_->begin(state_, {.address = 0xabc00020, .is_operand = true, .is_fetch = false});
  EXPECT_EQ(std::get<MemoryAccess>(other).address, kDevice + 0x10);
}

}  // namespace
}  // namespace bulkhead::engine::emulator
