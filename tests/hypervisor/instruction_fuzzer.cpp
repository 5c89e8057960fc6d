// SPDX-License-Identifier: Apache-2.0
//
// Any bytes, in any mode: what the decoder accepts has a length that it read, and can be executed.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "hypervisor/decode/execute.hpp"

using namespace bulkhead::hypervisor;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  constexpr CodeSize kSizes[] = {CodeSize::k16Bit, CodeSize::k32Bit, CodeSize::k64Bit};
  const auto instruction = decode(std::span(data + 1, size - 1), kSizes[data[0] % 3]);
  if (!instruction) return 0;
  if (instruction->length == 0 || instruction->length > kMaximumInstructionLength || instruction->length > size - 1)
    abort();
  if (has_memory_operand(*instruction)) {
    std::uint64_t general[16] = {0x0123456789abcdef, ~0ull, 0, 1};
    std::uint64_t rflags = 2;
    (void)execute(*instruction, 0xfedcba9876543210, general, rflags);
    if ((rflags & ~0x8d5ull) != 2) abort();
  }
  return 0;
}
