// SPDX-License-Identifier: Apache-2.0
//
// Kernel files made by hand, as small as their formats allow, and what a loader did with them.
#pragma once

#include <gtest/gtest.h>
#include <algorithm>
#include <string>

#include "firmware/byte_writer.hpp"
#include "firmware/firmware.hpp"
#include "firmware/memory_layout.hpp"

namespace bulkhead::firmware {

constexpr std::uint64_t kMib = 1024 * 1024;

inline std::unique_ptr<engine::GuestMemory> machine_memory(std::uint64_t low, std::uint64_t high = 0) {
  std::vector<engine::GuestMemory::Range> ranges{{0, low}};
  if (high > 0) ranges.push_back({kFourGib, high});
  auto memory = engine::GuestMemory::allocate(ranges);
  EXPECT_TRUE(memory.has_value());
  return std::move(*memory);
}

inline Bytes bytes_at(const engine::GuestMemory& memory, std::uint64_t address, std::size_t size) {
  Bytes bytes(size);
  EXPECT_TRUE(memory.read(address, bytes));
  return bytes;
}

inline std::uint64_t number_at(const engine::GuestMemory& memory, std::uint64_t address, unsigned size) {
  return get(bytes_at(memory, address, size), 0, size);
}

inline std::string text_at(const engine::GuestMemory& memory, std::uint64_t address) {
  const Bytes bytes = bytes_at(memory, address, 4096);
  return {bytes.begin(), std::ranges::find(bytes, 0)};
}

inline abi::RegisterValue value_of(const EntryState& state, abi::RegisterName name) {
  for (const auto& assignment : state.registers) {
    if (assignment.name == name) return assignment.value;
  }
  ADD_FAILURE() << "register " << static_cast<std::uint32_t>(name) << " is not set";
  return {};
}

inline std::string why(const Result<EntryState>& result) { return result ? "loaded" : result.error().message(); }

/// A bzImage of protocol 2.15 with a 64-bit entry: four setup sectors, then `image_size` bytes of A5h.
inline Bytes bzimage(std::size_t image_size = 0x10000) {
  Bytes file(5 * 512 + image_size, 0);
  std::fill(file.begin() + 5 * 512, file.end(), std::uint8_t{0xa5});
  put(file, 0x1f1, 4, 1);
  put(file, 0x1f4, image_size / 16, 4);
  put(file, 0x1fe, 0xaa55, 2);
  put(file, 0x201, 0x6a, 1);
  put(file, 0x202, 0x5372'6448, 4);
  put(file, 0x206, 0x20f, 2);
  put(file, 0x211, 1, 1);
  put(file, 0x214, 0x10'0000, 4);
  put(file, 0x22c, 0x7fff'ffff, 4);
  put(file, 0x230, 0x20'0000, 4);
  put(file, 0x234, 1, 1);
  put(file, 0x236, 0x3f, 2);
  put(file, 0x238, 2047, 4);
  put(file, 0x258, 16 * kMib, 8);
  put(file, 0x260, 32 * kMib, 4);
  return file;
}

}  // namespace bulkhead::firmware
