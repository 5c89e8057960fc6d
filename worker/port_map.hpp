// SPDX-License-Identifier: Apache-2.0
//
// Which device has which I/O port. A look-up is two loads: the page of 256 ports, then the port in it. Pages without
// a device share one empty page, so the map takes a few hundred bytes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "error/error.hpp"
#include "vdev/device.hpp"

namespace bulkhead::worker {

class PortMap {
 public:
  PortMap();

  /// Gives the device all ports that it names. Error: a port has a device already; then none is given.
  Result<> add(vdev::PortDevice& device);

  /// The device of a port, or null.
  vdev::PortDevice* find(std::uint16_t port) const { return devices_[(*pages_[port >> 8])[port & 0xff]]; }

  /// An access of 1, 2 or 4 bytes. One that does not lie in the ports of one device is split into its bytes, as the
  /// bus does it. Where there is no device, reads give ones and writes are lost.
  std::uint32_t read(std::uint16_t port, unsigned size);
  void write(std::uint16_t port, unsigned size, std::uint32_t value);

 private:
  using Page = std::array<std::uint8_t, 256>;  // numbers in devices_

  bool belongs_to_one_device(std::uint16_t port, unsigned size) const;

  std::vector<vdev::PortDevice*> devices_{nullptr};  // number 0: no device
  std::vector<std::unique_ptr<Page>> owned_pages_;
  std::array<Page*, 256> pages_;
};

}  // namespace bulkhead::worker
