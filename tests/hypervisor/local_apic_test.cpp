// SPDX-License-Identifier: Apache-2.0
//
// The local APIC as the Intel SDM, volume 3, describes it.
#include "hypervisor/apic/local_apic.hpp"

#include <gtest/gtest.h>

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint32_t kId = 0x20, kVersion = 0x30, kTpr = 0x80, kPpr = 0xa0, kEoi = 0xb0, kLdr = 0xd0, kDfr = 0xe0,
                        kSvr = 0xf0, kIsr = 0x100, kTmr = 0x180, kIrr = 0x200, kEsr = 0x280, kIcrLow = 0x300,
                        kIcrHigh = 0x310, kLvtTimer = 0x320, kLvtLint0 = 0x350, kLvtError = 0x370,
                        kInitialCount = 0x380, kCurrentCount = 0x390, kDivide = 0x3e0;
constexpr std::uint64_t kX2ApicBase = 0xfee00d00;

class LocalApicTest : public testing::Test {
 protected:
  LocalApicTest() {
    apic_.reset(3, true, true, 100);
    apic_.write(kSvr, 0x1ff, 0);
  }
  LocalApic::Outcome write(std::uint32_t offset, std::uint32_t value, std::uint64_t now = 0) {
    return apic_.write(offset, value, now);
  }
  std::uint32_t read(std::uint32_t offset, std::uint64_t now = 0) { return apic_.read(offset, now); }
  bool set_contains(std::uint32_t first, unsigned vector) {
    return read(first + vector / 32 * 16) >> (vector % 32) & 1;
  }
  void enter_x2apic() { ASSERT_FALSE(apic_.set_base(kX2ApicBase).fault); }

  LocalApic apic_;
};

TEST_F(LocalApicTest, ResetState) {
  LocalApic apic;
  apic.reset(3, false, true, 100);
  EXPECT_EQ(apic.base(), 0xfee00800u);
  EXPECT_EQ(apic.read(kId, 0), 3u << 24);
  EXPECT_EQ(apic.read(kVersion, 0), 0x50014u);
  EXPECT_EQ(apic.read(kSvr, 0), 0xffu);
  EXPECT_EQ(apic.read(kDfr, 0), 0xffffffffu);
  EXPECT_EQ(apic.read(kLvtTimer, 0), 0x10000u);
  EXPECT_FALSE(apic.address().accepting);
}

TEST_F(LocalApicTest, InterruptsAreTakenByPriority) {
  apic_.accept(0x31, false);
  apic_.accept(0x82, false);
  EXPECT_TRUE(set_contains(kIrr, 0x31));
  ASSERT_EQ(apic_.deliverable(), 0x82);
  apic_.take(0x82);
  EXPECT_TRUE(set_contains(kIsr, 0x82));
  EXPECT_FALSE(set_contains(kIrr, 0x82));
  EXPECT_EQ(read(kPpr), 0x80u);
  EXPECT_EQ(apic_.deliverable(), std::nullopt) << "a lower class waits for the end of the higher one";
  apic_.accept(0x8f, false);
  EXPECT_EQ(apic_.deliverable(), std::nullopt) << "and so does the same class";
  apic_.accept(0x91, false);
  EXPECT_EQ(apic_.deliverable(), 0x91);
  apic_.take(0x91);
  write(kEoi, 0);
  EXPECT_FALSE(set_contains(kIsr, 0x91)) << "EOI ends the highest one";
  EXPECT_TRUE(set_contains(kIsr, 0x82));
  write(kEoi, 0);
  EXPECT_EQ(apic_.deliverable(), 0x8f);
}

TEST_F(LocalApicTest, TaskPriorityHoldsBackItsClassAndBelow) {
  write(kTpr, 0x45);
  EXPECT_EQ(read(kPpr), 0x45u);
  apic_.accept(0x4f, false);
  EXPECT_EQ(apic_.deliverable(), std::nullopt);
  EXPECT_EQ(apic_.waiting(), 0x4f) << "it waits for the processor alone";
  write(kTpr, 0x30);
  EXPECT_EQ(apic_.deliverable(), 0x4f);
}

TEST_F(LocalApicTest, OnlyLevelTriggeredInterruptsReportTheirEnd) {
  apic_.accept(0x50, true);
  EXPECT_TRUE(set_contains(kTmr, 0x50));
  apic_.take(0x50);
  EXPECT_EQ(write(kEoi, 0).level_eoi, 0x50);
  apic_.accept(0x50, false);
  EXPECT_FALSE(set_contains(kTmr, 0x50));
  apic_.take(0x50);
  EXPECT_EQ(write(kEoi, 0).level_eoi, std::nullopt);
  EXPECT_EQ(write(kEoi, 0).level_eoi, std::nullopt) << "with nothing in service EOI does nothing";
}

TEST_F(LocalApicTest, OneShotTimer) {
  write(kLvtTimer, 0x40);
  write(kDivide, 0xb);  // by 1
  write(kInitialCount, 1000, 5000);
  EXPECT_EQ(apic_.timer().deadline(), 6000u);
  EXPECT_EQ(read(kCurrentCount, 5400), 600u);
  apic_.fire_timer(6000);
  EXPECT_EQ(apic_.deliverable(), 0x40);
  EXPECT_EQ(apic_.timer().deadline(), ApicTimer::kNever);
  EXPECT_EQ(read(kCurrentCount, 6001), 0u);
  write(kInitialCount, 50, 7000);
  write(kInitialCount, 0, 7010);
  EXPECT_EQ(apic_.timer().deadline(), ApicTimer::kNever) << "0 stops it";
}

TEST_F(LocalApicTest, DivideConfiguration) {
  const std::pair<std::uint32_t, std::uint64_t> cases[] = {{0, 2},  {1, 4},  {2, 8},    {3, 16},
                                                           {8, 32}, {9, 64}, {10, 128}, {11, 1}};
  for (const auto& [value, divisor] : cases) {
    write(kDivide, value);
    write(kInitialCount, 1000, 0);
    EXPECT_EQ(apic_.timer().deadline(), 1000 * divisor);
    EXPECT_EQ(read(kCurrentCount, 250 * divisor), 750u);
    EXPECT_EQ(read(kDivide), value);
  }
}

TEST_F(LocalApicTest, PeriodicTimerKeepsItsBeatAndSkipsWhatItMissed) {
  write(kLvtTimer, 0x20040);
  write(kDivide, 0xb);
  write(kInitialCount, 5000, 0);
  apic_.fire_timer(5010);
  EXPECT_EQ(apic_.timer().deadline(), 10'000u);
  apic_.fire_timer(22'000);
  EXPECT_EQ(apic_.timer().deadline(), 25'000u);
  write(kInitialCount, 1, 10'000);
  EXPECT_EQ(apic_.timer().deadline(), 10'100u) << "not faster than the minimum period";
}

TEST_F(LocalApicTest, AFastTimerLeavesTheGuestAsMuchTimeAsItsInterruptsTake) {
  write(kLvtTimer, 0x20040);
  write(kDivide, 0xb);
  write(kInitialCount, 1000, 0);
  apic_.fire_timer(1010);
  EXPECT_EQ(apic_.timer().deadline(), 2000u) << "nothing was missed";
  apic_.fire_timer(5500);
  EXPECT_EQ(apic_.timer().deadline(), 9000u) << "3,500 late";
  apic_.fire_timer(90'000);
  EXPECT_EQ(apic_.timer().deadline(), 95'000u) << "and no more than 50 minimum periods";
  const ApicTimer& timer = apic_.timer();
  EXPECT_TRUE(
      timer.can_be(timer.mode(), timer.initial_count(), timer.divide_configuration(), timer.remaining_count(90'000)))
      << "in a saved state too";
  write(kLvtTimer, 0x40);
  EXPECT_EQ(timer.remaining_count(90'000), 1000u) << "one that does not repeat has at most its count left";
}

TEST_F(LocalApicTest, TscDeadline) {
  apic_.timer().set_tsc_deadline(77);
  EXPECT_EQ(apic_.timer().deadline(), ApicTimer::kNever) << "not in that mode";
  write(kLvtTimer, 0x40040);
  apic_.timer().set_tsc_deadline(900);
  EXPECT_EQ(apic_.timer().deadline(), 900u);
  write(kInitialCount, 5, 0);
  EXPECT_EQ(apic_.timer().deadline(), 900u) << "the counter is not used in that mode";
  EXPECT_EQ(read(kCurrentCount, 0), 0u);
  write(kLvtTimer, 0x40);
  EXPECT_EQ(apic_.timer().deadline(), ApicTimer::kNever) << "leaving the mode disarms";
}

TEST_F(LocalApicTest, AMaskedTimerFiresUnheard) {
  write(kLvtTimer, 0x10040);
  write(kInitialCount, 10, 0);
  apic_.fire_timer(100);
  EXPECT_EQ(apic_.deliverable(), std::nullopt);
}

TEST_F(LocalApicTest, SoftwareDisableMasksTheLocalVectors) {
  write(kLvtTimer, 0x40);
  write(kSvr, 0xff);
  EXPECT_EQ(read(kLvtTimer), 0x10040u);
  EXPECT_FALSE(apic_.address().accepting);
  write(kLvtTimer, 0x41);
  EXPECT_EQ(read(kLvtTimer), 0x10041u) << "the mask cannot be cleared while disabled";
}

TEST_F(LocalApicTest, Errors) {
  write(kLvtError, 0xfe);
  write(kIcrLow, 0x0000000f);  // vector 15
  EXPECT_EQ(read(kEsr), 0u) << "errors show after the register is written";
  EXPECT_EQ(apic_.deliverable(), 0xfe);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0x20u);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0u);
  apic_.accept(3, false);
  read(0x3f0);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0xc0u) << "received illegal vector, illegal register";
}

TEST_F(LocalApicTest, CommandRegisterInXapicMode) {
  write(kIcrHigh, 0x05ffffff);
  const auto sent = write(kIcrLow, 0x4041).send;
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->mode, DeliveryMode::Fixed);
  EXPECT_EQ(sent->vector, 0x41);
  EXPECT_EQ(sent->kind, Destination::Physical);
  EXPECT_EQ(sent->destination, 5u);
  EXPECT_FALSE(sent->wide);
  EXPECT_EQ(read(kIcrLow), 0x4041u);
  EXPECT_EQ(read(kIcrHigh), 0x05000000u);

  EXPECT_EQ(write(kIcrLow, 0x4841).send->kind, Destination::Logical);
  EXPECT_EQ(write(kIcrLow, 0xc4500).send->kind, Destination::AllButSender);
  EXPECT_EQ(write(kIcrLow, 0xc4500).send->mode, DeliveryMode::Init);
  EXPECT_EQ(write(kIcrLow, 0xc4608).send->mode, DeliveryMode::StartUp);
  EXPECT_EQ(write(kIcrLow, 0x84041).send->kind, Destination::All);
  EXPECT_EQ(write(kIcrLow, 0x4400).send->mode, DeliveryMode::Nmi);
  EXPECT_FALSE(write(kIcrLow, 0x8500).send) << "INIT level de-assert";
  EXPECT_FALSE(write(kIcrLow, 0x4200).send) << "SMI";
  EXPECT_FALSE(write(kIcrLow, 0x84500).send) << "INIT to all including self is not valid";
  EXPECT_FALSE(write(kIcrLow, 0x44042).send) << "self";
  EXPECT_EQ(apic_.deliverable(), 0x42);
}

TEST_F(LocalApicTest, ExternalInterruptsPassThroughLint0) {
  EXPECT_FALSE(apic_.accepts_external());
  write(kLvtLint0, 0x700);
  EXPECT_TRUE(apic_.accepts_external());
  write(kLvtLint0, 0x10700);
  EXPECT_FALSE(apic_.accepts_external());
  ASSERT_FALSE(apic_.set_base(0xfee00100).fault);
  EXPECT_TRUE(apic_.accepts_external()) << "without an APIC the PIC is wired to the processor";
}

TEST_F(LocalApicTest, ModeChanges) {
  EXPECT_TRUE(apic_.set_base(0xfed00900).fault) << "it cannot be moved";
  EXPECT_TRUE(apic_.set_base(0xfee00500).fault) << "x2APIC without enable";
  enter_x2apic();
  EXPECT_TRUE(apic_.set_base(0xfee00900).fault) << "not back to xAPIC directly";
  EXPECT_FALSE(apic_.set_base(0xfee00100).fault);
  EXPECT_TRUE(apic_.set_base(kX2ApicBase).fault) << "not from disabled directly";
  EXPECT_FALSE(apic_.set_base(0xfee00900).fault);
  LocalApic without;
  without.reset(0, true, false, 1);
  EXPECT_TRUE(without.set_base(kX2ApicBase).fault) << "not offered";
}

TEST_F(LocalApicTest, X2ApicRegisters) {
  EXPECT_EQ(apic_.read_x2(0x02, 0), std::nullopt) << "not in xAPIC mode";
  enter_x2apic();
  EXPECT_EQ(apic_.read_x2(0x02, 0), 3u);
  EXPECT_EQ(apic_.read_x2(0x0d, 0), 1u << 3) << "the logical id is derived";
  EXPECT_EQ(apic_.read_x2(0x0e, 0), std::nullopt) << "no destination format register";
  EXPECT_EQ(apic_.read_x2(0x31, 0), std::nullopt) << "no second half of the command register";
  EXPECT_TRUE(apic_.write_x2(0x02, 5, 0).fault);
  EXPECT_TRUE(apic_.write_x2(0x0b, 1, 0).fault) << "EOI takes zero only";
  EXPECT_FALSE(apic_.write_x2(0x0b, 0, 0).fault);
  EXPECT_TRUE(apic_.write_x2(0x08, 0x100, 0).fault);
  EXPECT_TRUE(apic_.write_x2(0x32, 0x80040, 0).fault) << "reserved bits";
  EXPECT_TRUE(apic_.write_x2(0x30, 0x00001041, 0).fault) << "delivery status is reserved";

  const auto sent = apic_.write_x2(0x30, 0x00000105'00000041, 0).send;
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->destination, 0x105u);
  EXPECT_TRUE(sent->wide);
  EXPECT_EQ(apic_.read_x2(0x30, 0), 0x00000105'00000041u);

  EXPECT_FALSE(apic_.write_x2(0x3f, 0x77, 0).fault);
  EXPECT_EQ(apic_.deliverable(), 0x77);
}

TEST(ApicAddress, Matching) {
  ApicAddress flat{.id = 3, .accepting = true, .logical_id = 0x08};
  const auto physical = [](std::uint32_t destination) { return InterruptRequest{.destination = destination}; };
  const auto logical = [](std::uint32_t destination, bool wide = false) {
    return InterruptRequest{.kind = Destination::Logical, .destination = destination, .wide = wide};
  };
  EXPECT_TRUE(flat.matches(physical(3)));
  EXPECT_FALSE(flat.matches(physical(4)));
  EXPECT_TRUE(flat.matches(physical(0xff)));
  EXPECT_TRUE(flat.matches(logical(0x0c)));
  EXPECT_FALSE(flat.matches(logical(0x04)));
  const ApicAddress cluster{.id = 3, .accepting = true, .cluster_model = true, .logical_id = 0x21};
  EXPECT_TRUE(cluster.matches(logical(0x23)));
  EXPECT_FALSE(cluster.matches(logical(0x13)));
  EXPECT_FALSE(cluster.matches(logical(0x22)));
  const ApicAddress x2{.id = 0x12, .accepting = true, .x2apic = true};
  EXPECT_TRUE(x2.matches(logical(0x0001'0004, true)));
  EXPECT_FALSE(x2.matches(logical(0x0002'0004, true)));
  EXPECT_TRUE(x2.matches({.destination = 0xffffffff, .wide = true}));
  flat.enabled = false;
  EXPECT_FALSE(flat.matches(physical(3)));
  EXPECT_EQ(ApicAddress::unpack(cluster.pack()).logical_id, 0x21);
  EXPECT_TRUE(ApicAddress::unpack(cluster.pack()).cluster_model);
}

}  // namespace
}  // namespace bulkhead::hypervisor
