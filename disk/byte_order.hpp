// SPDX-License-Identifier: Apache-2.0
//
// Numbers as they lie in an image file: alignment 1, a fixed byte order, so that a struct of them is the layout itself.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace bulkhead::disk {

static_assert(std::endian::native == std::endian::little, "the image formats are written for x86-64");

template <typename T>
constexpr T swap_bytes(T value) {
  if constexpr (sizeof(T) == 2) {
    return static_cast<T>(__builtin_bswap16(value));
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

/// VHDX keeps its numbers in this order.
template <typename T>
class LittleEndian {
 public:
  LittleEndian() = default;
  LittleEndian(T value) : bytes_(std::bit_cast<Bytes>(value)) {}
  operator T() const { return std::bit_cast<T>(bytes_); }

 private:
  using Bytes = std::array<std::byte, sizeof(T)>;
  Bytes bytes_{};
};

/// VHD keeps its numbers in this order.
template <typename T>
class BigEndian {
 public:
  BigEndian() = default;
  BigEndian(T value) : bytes_(std::bit_cast<Bytes>(swap_bytes(value))) {}
  operator T() const { return swap_bytes(std::bit_cast<T>(bytes_)); }

 private:
  using Bytes = std::array<std::byte, sizeof(T)>;
  Bytes bytes_{};
};

/// The bytes of a layout struct, and back.
template <typename Layout>
std::span<const std::byte> bytes_of(const Layout& layout) {
  return std::as_bytes(std::span(&layout, 1));
}
template <typename Layout>
std::span<std::byte> writable_bytes_of(Layout& layout) {
  return std::as_writable_bytes(std::span(&layout, 1));
}
/// `bytes` must have at least sizeof(Layout) from `offset` on.
template <typename Layout>
Layout load(std::span<const std::byte> bytes, std::size_t offset = 0) {
  Layout layout;
  std::memcpy(&layout, bytes.data() + offset, sizeof layout);
  return layout;
}
template <typename Layout>
void store(std::span<std::byte> bytes, std::size_t offset, const Layout& layout) {
  std::memcpy(bytes.data() + offset, &layout, sizeof layout);
}

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;
constexpr std::uint64_t kGiB = 1024 * kMiB;
constexpr std::uint64_t kTiB = 1024 * kGiB;

}  // namespace bulkhead::disk
