// SPDX-License-Identifier: Apache-2.0
//
// What a fuzzer's input is taken apart with: numbers and bytes from its beginning on, and zeros after its end.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

namespace bulkhead::fuzz {

/// What must hold whatever the input says.
inline void check(bool holds) {
  if (!holds) std::abort();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {}

  bool is_empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t first = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return first;
  }
  std::uint16_t half() { return static_cast<std::uint16_t>(byte() | byte() << 8); }
  std::uint32_t word() { return half() | std::uint32_t{half()} << 16; }
  std::uint64_t number() { return word() | std::uint64_t{word()} << 32; }
  std::vector<std::uint8_t> take(std::size_t count) {
    std::vector<std::uint8_t> taken(count);
    for (auto& value : taken) value = byte();
    return taken;
  }
  /// At most 255 characters.
  std::string text() {
    const auto letters = take(byte());
    return {letters.begin(), letters.end()};
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace bulkhead::fuzz
