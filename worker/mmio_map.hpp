// SPDX-License-Identifier: Apache-2.0
//
// Which device has which range of guest physical addresses: an array sorted by address, searched by halving.
#pragma once

#include <cstdint>
#include <vector>

#include "error/error.hpp"
#include "vdev/device.hpp"

namespace bulkhead::worker {

class MmioMap {
 public:
  /// Gives the device all ranges that it names. Error: a range is empty or overlaps another; then none is given.
  Result<> add(vdev::MmioDevice& device);

  /// An access of 1, 2, 4 or 8 bytes. Where it does not lie in one range, reads give ones and writes are lost.
  std::uint64_t read(std::uint64_t address, unsigned size);
  void write(std::uint64_t address, unsigned size, std::uint64_t value);

 private:
  struct Entry {
    std::uint64_t base;
    std::uint64_t size;
    vdev::MmioDevice* device;
    std::size_t range;  // its number in the device
  };

  const Entry* find(std::uint64_t address, unsigned size) const;

  std::vector<Entry> entries_;  // by base, without overlap
};

}  // namespace bulkhead::worker
