// SPDX-License-Identifier: Apache-2.0
#include "worker/identity.hpp"

#include <algorithm>
#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid.hpp>
#include <cstring>
#include <string>

namespace bulkhead::worker {
namespace {

/// The name space of Bulkhead's devices: any number, once and for all.
constexpr boost::uuids::uuid kNameSpace = {
    {0x6b, 0x0e, 0x7c, 0x2a, 0x58, 0x1d, 0x4f, 0x33, 0x9d, 0x41, 0xc0, 0xe5, 0x72, 0x8f, 0x16, 0xab}};

}  // namespace

disk::Guid device_identity(std::string_view machine, std::string_view device) {
  // The machine's name may hold anything, so its length goes before it.
  const std::string name = std::to_string(machine.size()) + ":" + std::string(machine) + "/" + std::string(device);
  const auto uuid = boost::uuids::name_generator_sha1(kNameSpace)(name);
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(uuid, bytes.begin());
  return disk::Guid::from_big_endian(bytes);
}

abi::Guid to_wire(const disk::Guid& guid) {
  abi::Guid wire{};
  static_assert(sizeof wire == sizeof guid.bytes);
  std::memcpy(&wire, guid.bytes.data(), sizeof wire);
  return wire;
}

}  // namespace bulkhead::worker
