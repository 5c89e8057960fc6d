// SPDX-License-Identifier: Apache-2.0
//
// How the fuzzers turn bytes into an image: a list of changes to a good one, with the checksums put right afterwards
// (unless the input says otherwise), so that mutations get past them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "disk/disk.hpp"
#include "disk/file/memory_file.hpp"
#include "disk/task.hpp"

namespace bulkhead::disk {

/// Takes numbers off the front of a fuzzer's input; zeros when it is used up.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::uint64_t take(std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size && !bytes_.empty(); ++i) {
      value |= std::uint64_t{bytes_[0]} << (8 * i);
      bytes_ = bytes_.subspan(1);
    }
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

template <typename T>
T now(Task<T> task) {
  return run(std::move(task), [] { std::abort(); });
}

/// What is done with every image that opens, whatever it holds.
inline void exercise(Disk& disk) {
  const auto& properties = disk.properties();
  const std::uint64_t sector = properties.logical_sector;
  std::vector<std::byte> bytes(16 * sector);
  const auto count = properties.size / sector;
  for (const auto first : {std::uint64_t{0}, count / 3, count / 2, count - std::min<std::uint64_t>(count, 16)}) {
    const auto offset = first * sector;
    const auto part = std::span(bytes).first(std::min<std::uint64_t>(bytes.size(), properties.size - offset));
    static_cast<void>(now(read_bytes(disk, offset, part)));
    static_cast<void>(now(disk.query(offset, properties.size - offset)));
    static_cast<void>(now(write_bytes(disk, offset, part)));
    static_cast<void>(now(disk.zero(offset, part.size())));
    static_cast<void>(now(disk.discard(offset, part.size())));
    static_cast<void>(now(disk.flush()));
  }
  static_cast<void>(now(disk.close()));
}

}  // namespace bulkhead::disk
