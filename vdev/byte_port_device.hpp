// SPDX-License-Identifier: Apache-2.0
//
// A device on the 8-bit ISA bus: the bus cuts a wider access into one access for each port, the lowest port first.
#pragma once

#include "vdev/device.hpp"

namespace bulkhead::vdev {

class BytePortDevice : public PortDevice {
 public:
  std::uint32_t read_port(std::uint16_t port, unsigned size) final {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
      const std::uint32_t byte = owns(port + i) ? read_byte(static_cast<std::uint16_t>(port + i)) : 0xff;
      value |= byte << (8 * i);
    }
    return value;
  }

  void write_port(std::uint16_t port, unsigned size, std::uint32_t value) final {
    for (unsigned i = 0; i < size; ++i) {
      if (owns(port + i)) write_byte(static_cast<std::uint16_t>(port + i), static_cast<std::uint8_t>(value >> (8 * i)));
    }
  }

 protected:
  virtual std::uint8_t read_byte(std::uint16_t port) = 0;
  virtual void write_byte(std::uint16_t port, std::uint8_t value) = 0;

 private:
  bool owns(std::uint32_t port) const {
    for (const PortRange& range : ports()) {
      if (port >= range.first && port <= range.last) return true;
    }
    return false;
  }
};

}  // namespace bulkhead::vdev
