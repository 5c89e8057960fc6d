// SPDX-License-Identifier: Apache-2.0
// What start-up memory, minimum, maximum, buffer and weight mean.
#include <gtest/gtest.h>

#include "vsp/memory/memory_policy.hpp"

namespace bulkhead::vsp::memory {
namespace {

constexpr Pages kMebibyte = 256;
constexpr Pages kStartup = 512 * kMebibyte;
constexpr HostMemory kRich{.total = 16384 * kMebibyte, .available = 8192 * kMebibyte};

MemoryLimits limits(std::uint32_t buffer = 20, std::uint32_t weight = 5000) {
  return {.minimum = 256 * kMebibyte, .maximum = 2048 * kMebibyte, .buffer_percent = buffer, .weight = weight};
}
std::string error_of(const MemoryLimits& checked) {
  const auto result = check_limits(checked, kStartup);
  return result ? "" : result.error().message();
}

TEST(MemoryPolicy, TheTargetIsDemandAndBuffer) {
  EXPECT_EQ(target(limits(20), 1000 * kMebibyte, kRich), 1200 * kMebibyte);
  EXPECT_EQ(target(limits(0), 1000 * kMebibyte, kRich), 1000 * kMebibyte);
  EXPECT_EQ(target(limits(100), 1000 * kMebibyte, kRich), 2000 * kMebibyte);
}

TEST(MemoryPolicy, TheTargetStaysWithinMinimumAndMaximum) {
  EXPECT_EQ(target(limits(), 0, kRich), 256 * kMebibyte);
  EXPECT_EQ(target(limits(), 2000 * kMebibyte, kRich), 2048 * kMebibyte);
}

TEST(MemoryPolicy, AnyNumberThatAGuestSaysIsNoMoreThanTheMaximum) {
  for (const Pages demand : {Pages{1} << 40, UINT64_MAX / 2, UINT64_MAX}) {
    EXPECT_EQ(target(limits(2000), demand, kRich), 2048 * kMebibyte);
  }
}

TEST(MemoryPolicy, AShortHostTakesBuffersByWeight) {
  const HostMemory poor{.total = 16384 * kMebibyte, .available = 100 * kMebibyte};
  EXPECT_EQ(target(limits(100, 10000), 1000 * kMebibyte, poor), 2000 * kMebibyte);
  EXPECT_EQ(target(limits(100, 5000), 1000 * kMebibyte, poor), 1500 * kMebibyte);
  EXPECT_EQ(target(limits(100, 0), 1000 * kMebibyte, poor), 1000 * kMebibyte);
}

TEST(MemoryPolicy, TheHeavierMachineGetsWhatIsLeft) {
  // A twentieth of 16 GiB is 819 MiB; the lightest machine leaves twice that alone.
  const HostMemory tight{.total = 16384 * kMebibyte, .available = 1000 * kMebibyte};
  const Pages wanted = 500 * kMebibyte;
  EXPECT_EQ(affordable(limits(20, 0), wanted, tight), 0u);
  EXPECT_EQ(affordable(limits(20, 5000), wanted, tight), 0u);
  EXPECT_EQ(affordable(limits(20, 10000), wanted, tight), 1000 * kMebibyte - tight.total / 20);
  EXPECT_EQ(affordable(limits(20, 0), wanted, kRich), wanted);
}

TEST(MemoryPolicy, AHostThatDoesNotSayHasNothingToSpare) { EXPECT_EQ(affordable(limits(20, 10000), 1, {}), 0u); }

TEST(MemoryPolicy, LimitsThatContradictEachOtherAreRefused) {
  EXPECT_EQ(error_of(limits()), "");
  auto bad = limits();
  bad.minimum = 0;
  EXPECT_EQ(error_of(bad), "the least memory, 0 MiB, must be more than 0 and no more than the 512 MiB at the start");
  bad.minimum = 513 * kMebibyte;
  EXPECT_EQ(error_of(bad), "the least memory, 513 MiB, must be more than 0 and no more than the 512 MiB at the start");
  bad = limits();
  bad.maximum = 511 * kMebibyte;
  EXPECT_EQ(error_of(bad), "the most memory, 511 MiB, is less than the 512 MiB at the start");
  EXPECT_EQ(error_of(limits(2001)), "the memory buffer is 0 to 2000 percent");
  EXPECT_EQ(error_of(limits(20, 10001)), "the memory weight is 0 to 10000");
}

}  // namespace
}  // namespace bulkhead::vsp::memory
