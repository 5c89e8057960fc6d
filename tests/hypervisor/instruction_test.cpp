// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/decode/instruction.hpp"

#include <Zydis/Zydis.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "hypervisor/decode/execute.hpp"

namespace bulkhead::hypervisor {
namespace {

std::optional<Instruction> decode64(std::vector<std::uint8_t> bytes) { return decode(bytes, CodeSize::k64Bit); }

TEST(Instruction, FindsTheLengthOfWhatExits) {
  const std::vector<std::tuple<std::vector<std::uint8_t>, Operation, unsigned>> cases = {
      {{0x0f, 0xa2}, Operation::Cpuid, 2},
      {{0x66, 0x0f, 0xa2}, Operation::Cpuid, 3},
      {{0x0f, 0x32}, Operation::ReadMsr, 2},
      {{0x48, 0x0f, 0x30}, Operation::WriteMsr, 3},
      {{0x0f, 0x01, 0xd9}, Operation::Hypercall, 3},
      {{0x0f, 0x01, 0xc1}, Operation::Hypercall, 3},
      {{0xf4}, Operation::Halt, 1},
      {{0x0f, 0x01, 0xd1}, Operation::SetXcr, 3},
      {{0x0f, 0x08}, Operation::Invd, 2},
      {{0xf3, 0x0f, 0x09}, Operation::Wbinvd, 3},
      {{0xe4, 0x60}, Operation::PortIo, 2},
      {{0xf3, 0x6e}, Operation::PortIo, 2},
      {{0x66, 0xed}, Operation::PortIo, 2},
      {{0xf3, 0x90}, Operation::Pause, 2},
      {{0x0f, 0x01, 0xc8}, Operation::Monitor, 3},
  };
  for (const auto& [bytes, operation, length] : cases) {
    const auto found = decode64(bytes);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->operation, operation);
    EXPECT_EQ(found->length, length);
    EXPECT_FALSE(has_memory_operand(*found));
  }
}

TEST(Instruction, RefusesWhatItDoesNotKnow) {
  EXPECT_FALSE(decode64({0x90}));
  EXPECT_FALSE(decode64({}));
  EXPECT_FALSE(decode64({0x0f}));
  EXPECT_FALSE(decode64({0x89, 0xc0})) << "MOV between registers accesses no memory";
  EXPECT_FALSE(decode64({0x8b, 0x05, 1, 2})) << "cut off";
  EXPECT_FALSE(decode64(std::vector<std::uint8_t>(16, 0x66))) << "only prefixes";
  EXPECT_FALSE(decode64({0xf0, 0x89, 0x00})) << "LOCK MOV does not exist";
  std::vector<std::uint8_t> long_one(14, 0x66);
  long_one.insert(long_one.end(), {0x0f, 0xa2});
  EXPECT_FALSE(decode64(long_one)) << "16 bytes";
}

TEST(Instruction, DecodesWhatLinuxDoesOnAnApicPage) {
  // mov %esi, 0xffffffffff5fb0b0(%rip-less, sign-extended absolute)
  auto found = decode64({0x89, 0x34, 0x25, 0xb0, 0xb0, 0x5f, 0xff});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->operation, Operation::Move);
  EXPECT_TRUE(found->to_memory);
  EXPECT_EQ(found->register_index, 6);
  EXPECT_EQ(found->memory_size, 4);
  EXPECT_EQ(found->length, 7);
  // movl $0, (%rdi)
  found = decode64({0xc7, 0x07, 0, 0, 0, 0});
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->has_immediate && found->to_memory);
  EXPECT_EQ(found->length, 6);
  // mov (%rax,%rcx,4), %r10d
  found = decode64({0x44, 0x8b, 0x14, 0x88});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->register_index, 10);
  EXPECT_FALSE(found->to_memory);
  // movzbl 5(%rdi), %eax
  found = decode64({0x0f, 0xb6, 0x47, 5});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->memory_size, 1);
  EXPECT_EQ(found->register_size, 4);
}

/// What Zydis says of the same bytes, if it says that this is one of the operations with a memory operand that the decoder knows.
struct Oracle {
  unsigned length;
  unsigned memory_size;
};
std::optional<Oracle> zydis(const std::vector<std::uint8_t>& bytes, CodeSize code_size) {
  ZydisDecoder decoder;
  switch (code_size) {
    case CodeSize::k64Bit: ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); break;
    case CodeSize::k32Bit: ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32); break;
    case CodeSize::k16Bit: ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16); break;
  }
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &instruction, operands))) {
    return std::nullopt;
  }
  Oracle oracle{instruction.length, 0};
  for (unsigned i = 0; i < instruction.operand_count_visible; ++i) {
    if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) oracle.memory_size = operands[i].size / 8;
  }
  return oracle;
}

TEST(Instruction, AgreesWithZydisOnRandomBytes) {
  std::mt19937 random(7);
  // Random bytes are seldom an instruction of interest, so most start with one of their opcodes.
  const std::vector<std::uint8_t> opcodes = {0x00, 0x01, 0x08, 0x09, 0x0a, 0x0b, 0x20, 0x21, 0x23, 0x29,
                                             0x2b, 0x31, 0x33, 0x39, 0x3b, 0x38, 0x3a, 0x80, 0x81, 0x83,
                                             0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1,
                                             0xa2, 0xa3, 0xc6, 0xc7, 0xf6, 0xf7, 0x0f, 0xf4, 0xec, 0x6c};
  const std::vector<std::uint8_t> prefixes = {0x66, 0x67, 0xf0, 0xf3, 0x2e, 0x65, 0x40, 0x48, 0x44, 0x4f};
  const std::vector<std::uint8_t> second = {0xb6, 0xb7, 0xbe, 0xbf, 0xa2, 0x30, 0x32, 0x01, 0x08, 0x09};
  unsigned known = 0;
  for (int round = 0; round < 300'000; ++round) {
    std::vector<std::uint8_t> bytes;
    for (unsigned i = random() % 3; i > 0; --i) bytes.push_back(prefixes[random() % prefixes.size()]);
    bytes.push_back(opcodes[random() % opcodes.size()]);
    if (bytes.back() == 0x0f) bytes.push_back(second[random() % second.size()]);
    while (bytes.size() < 15) bytes.push_back(static_cast<std::uint8_t>(random()));
    bytes.resize(1 + random() % 15);
    const CodeSize code_size = std::array{CodeSize::k16Bit, CodeSize::k32Bit, CodeSize::k64Bit}[random() % 3];
    const auto ours = decode(bytes, code_size);
    if (!ours) continue;
    const auto theirs = zydis(bytes, code_size);
    ASSERT_TRUE(theirs) << testing::PrintToString(bytes) << " in mode " << static_cast<int>(code_size);
    ASSERT_EQ(unsigned{ours->length}, theirs->length)
        << testing::PrintToString(bytes) << " in mode " << static_cast<int>(code_size);
    if (has_memory_operand(*ours)) {
      ++known;
      ASSERT_EQ(unsigned{ours->memory_size}, theirs->memory_size) << testing::PrintToString(bytes);
    }
  }
  EXPECT_GT(known, 10'000u);
}

TEST(Execute, ComputesWhatAProcessorWould) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 10'000; ++round) {
    const auto memory = static_cast<std::uint32_t>(random() >> (random() % 32));
    const auto other = static_cast<std::uint32_t>(random() >> (random() % 32));
    const auto check = [&](Operation operation, std::uint32_t expected, std::uint64_t expected_flags) {
      std::uint64_t general[16] = {0, other};
      std::uint64_t rflags = 2;
      const auto written = execute({.operation = operation,
                                    .length = 2,
                                    .memory_size = 4,
                                    .register_size = 4,
                                    .to_memory = true,
                                    .register_index = 1},
                                   memory, general, rflags);
      ASSERT_TRUE(written);
      EXPECT_EQ(*written, expected);
      EXPECT_EQ(rflags & 0x8c5, expected_flags & 0x8c5);  // OF SF ZF PF CF
    };
    std::uint32_t result;
    std::uint64_t flags;
#define PROCESSOR(instruction)                                    \
  result = memory;                                                \
  asm(instruction " %[other], %[result]\n pushfq\n popq %[flags]" \
      : [result] "+r"(result), [flags] "=r"(flags)                \
      : [other] "r"(other)                                        \
      : "cc")
    PROCESSOR("addl");
    check(Operation::Add, result, flags);
    PROCESSOR("subl");
    check(Operation::Subtract, result, flags);
    PROCESSOR("andl");
    check(Operation::And, result, flags);
    PROCESSOR("orl");
    check(Operation::Or, result, flags);
    PROCESSOR("xorl");
    check(Operation::Xor, result, flags);
#undef PROCESSOR
  }
}

TEST(Execute, RegistersOfEachWidth) {
  const auto load = [](unsigned memory_size, unsigned register_size, bool high, Operation operation) {
    std::uint64_t general[16] = {0x1111222233334444};
    std::uint64_t rflags = 2;
    execute({.operation = operation,
             .length = 2,
             .memory_size = static_cast<std::uint8_t>(memory_size),
             .register_size = static_cast<std::uint8_t>(register_size),
             .register_index = 0,
             .high_byte = high},
            0xaabbccddeeff8899, general, rflags);
    return general[0];
  };
  EXPECT_EQ(load(8, 8, false, Operation::Move), 0xaabbccddeeff8899u);
  EXPECT_EQ(load(4, 4, false, Operation::Move), 0xeeff8899u) << "a 32-bit result clears the upper half";
  EXPECT_EQ(load(2, 2, false, Operation::Move), 0x1111222233338899u);
  EXPECT_EQ(load(1, 1, false, Operation::Move), 0x1111222233334499u);
  EXPECT_EQ(load(1, 1, true, Operation::Move), 0x1111222233339944u);
  EXPECT_EQ(load(1, 4, false, Operation::MoveZeroExtend), 0x99u);
  EXPECT_EQ(load(2, 8, false, Operation::MoveSignExtend), 0xffffffffffff8899u);
  EXPECT_EQ(load(1, 2, false, Operation::MoveSignExtend), 0x111122223333ff99u);
}

TEST(Execute, ExchangeSwaps) {
  std::uint64_t general[16] = {0, 0, 5};
  std::uint64_t rflags = 2;
  const auto written = execute({.operation = Operation::Exchange,
                                .length = 2,
                                .memory_size = 4,
                                .register_size = 4,
                                .to_memory = true,
                                .register_index = 2},
                               9, general, rflags);
  EXPECT_EQ(written, 5u);
  EXPECT_EQ(general[2], 9u);
}

}  // namespace
}  // namespace bulkhead::hypervisor
