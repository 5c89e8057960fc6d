// SPDX-License-Identifier: Apache-2.0
#include "worker/port_map.hpp"

#include <fmt/format.h>

namespace bulkhead::worker {

PortMap::PortMap() {
  owned_pages_.push_back(std::make_unique<Page>());
  pages_.fill(owned_pages_.front().get());
}

Result<> PortMap::add(vdev::PortDevice& device) {
  for (const auto& range : device.ports()) {
    for (unsigned port = range.first; port <= range.last; ++port) {
      if (find(static_cast<std::uint16_t>(port))) return fail(fmt::format("two devices want the port {:#x}", port));
    }
  }
  if (devices_.size() > UINT8_MAX) return fail("too many devices with ports");
  const auto number = static_cast<std::uint8_t>(devices_.size());
  devices_.push_back(&device);

  for (const auto& range : device.ports()) {
    for (unsigned port = range.first; port <= range.last; ++port) {
      Page*& page = pages_[port >> 8];
      if (page == owned_pages_.front().get()) page = owned_pages_.emplace_back(std::make_unique<Page>()).get();
      (*page)[port & 0xff] = number;
    }
  }
  return {};
}

bool PortMap::belongs_to_one_device(std::uint16_t port, unsigned size) const {
  const unsigned last = port + size - 1;
  return last <= UINT16_MAX && find(port) == find(static_cast<std::uint16_t>(last));
}

std::uint32_t PortMap::read(std::uint16_t port, unsigned size) {
  if (belongs_to_one_device(port, size)) {
    auto* device = find(port);
    return device ? device->read_port(port, size) : UINT32_MAX >> (32 - 8 * size);
  }
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    auto* device = port + i <= UINT16_MAX ? find(static_cast<std::uint16_t>(port + i)) : nullptr;
    const std::uint32_t byte = device ? device->read_port(static_cast<std::uint16_t>(port + i), 1) & 0xff : 0xff;
    value |= byte << (8 * i);
  }
  return value;
}

void PortMap::write(std::uint16_t port, unsigned size, std::uint32_t value) {
  if (belongs_to_one_device(port, size)) {
    if (auto* device = find(port)) device->write_port(port, size, value);
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    auto* device = port + i <= UINT16_MAX ? find(static_cast<std::uint16_t>(port + i)) : nullptr;
    if (device) device->write_port(static_cast<std::uint16_t>(port + i), 1, (value >> (8 * i)) & 0xff);
  }
}

}  // namespace bulkhead::worker
