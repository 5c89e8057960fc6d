// SPDX-License-Identifier: Apache-2.0
//
// From bytes to an Instruction. A driver touches its device with few instructions again and again, so the last ones
// are kept, found by their bytes and the processor's mode: code that changes is decoded anew.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "engine/emulator/instruction.hpp"

namespace bulkhead::engine::emulator {

enum class Mode : std::uint8_t { Bits16, Bits32, Bits64 };

inline constexpr std::size_t kLongestInstruction = 15;

enum class DecodeResult : std::uint8_t { Decoded, NeedsMoreBytes, Unsupported };

/// Without keeping anything.
DecodeResult decode(Mode mode, std::span<const std::uint8_t> bytes, Instruction& instruction);

/// Up to 15 bytes of code; those after `count` are zero.
struct InstructionBytes {
  std::array<std::uint8_t, 16> bytes{};
  std::uint8_t count = 0;
};

class Decoder {
 public:
  /// `code_address` only says where to look in what is kept. The instruction is valid until the next call.
  DecodeResult decode(Mode mode, const InstructionBytes& code, std::uint64_t code_address,
                      const Instruction*& instruction);

 private:
  struct Entry {
    std::array<std::uint8_t, 16> bytes{};
    std::array<std::uint8_t, 16> mask{};  // ones for the bytes of the instruction
    Mode mode = Mode::Bits16;
    bool used = false;
    Instruction instruction{};
  };
  std::array<Entry, 64> entries_;
};

}  // namespace bulkhead::engine::emulator
