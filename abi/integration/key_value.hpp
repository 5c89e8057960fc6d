// SPDX-License-Identifier: Apache-2.0
//
// Key-value exchange (KVP): pools of keys and values in the guest, which guest and host can read and write, and the
// guest's network addresses.
//
//   0    1    2    4
//   ┌────┬────┬────┬──────────────────────────┐
//   │op. │pool│    │ by the operation         │    text of network addresses, before 5.0, begins at 2 already
//   └────┴────┴────┴──────────────────────────┘
//
// Text is UTF-16; its size is in bytes and counts the zero at its end.
#pragma once

#include "abi/integration/frame.hpp"

namespace bulkhead::abi::integration {

inline constexpr Guid kKeyValueInterface = Guid::of("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6");
inline constexpr Guid kKeyValueInstance = Guid::of("242ff919-07db-4180-9c2e-b86cb68c8c55");

enum class KeyValueOperation : std::uint8_t {
  Get = 0,
  Set = 1,
  Delete = 2,
  Enumerate = 3,
  GetAddresses = 4,
  SetAddresses = 5,
};

enum class KeyValuePool : std::uint8_t {
  External = 0,      // the host writes, the guest reads
  Guest = 1,         // the guest writes, the host reads
  Auto = 2,          // what the guest's own service knows of it: names, versions, addresses
  AutoExternal = 3,  // what the host's service knows of itself
  Internal = 4,
};

enum class KeyValueType : std::uint32_t { String = 1, ExpandString = 2, Number = 4, LongNumber = 11 };

inline constexpr std::size_t kKeySize = 512;
inline constexpr std::size_t kValueSize = 2048;

struct KeyValueHeader {
  KeyValueOperation operation;
  KeyValuePool pool;
  std::uint16_t reserved;
};
static_assert(sizeof(KeyValueHeader) == 4);

struct KeyValue {
  KeyValueType type;
  std::uint32_t key_size;
  std::uint32_t value_size;
  std::uint8_t key[kKeySize];
  std::uint8_t value[kValueSize];
};
static_assert(sizeof(KeyValue) == 2572 && offsetof(KeyValue, value) == 524);

/// Get and Set.
struct KeyValueMessage {
  KeyValueHeader header;
  KeyValue item;
};
static_assert(sizeof(KeyValueMessage) == 2576);

struct KeyDeleteMessage {
  KeyValueHeader header;
  std::uint32_t key_size;
  std::uint8_t key[kKeySize];
};
static_assert(sizeof(KeyDeleteMessage) == 520);

struct KeyEnumerateMessage {
  KeyValueHeader header;
  std::uint32_t index;
  KeyValue item;
};
static_assert(sizeof(KeyEnumerateMessage) == 2580);

struct AddressFamily {
  static constexpr std::uint8_t kIpv4 = 1;
  static constexpr std::uint8_t kIpv6 = 2;
};

inline constexpr std::size_t kAdapterIdSize = 256;

/// GetAddresses and SetAddresses before 5.0: addresses as text, several divided by ';'.
struct [[gnu::packed]] AddressTextMessage {
  KeyValueOperation operation;
  KeyValuePool pool;
  std::uint8_t adapter[kAdapterIdSize];
  std::uint8_t family;
  std::uint8_t dhcp;
  std::uint8_t addresses[2048];
  std::uint8_t subnets[2048];
  std::uint8_t gateways[1024];
  std::uint8_t dns_servers[2048];
};
static_assert(sizeof(AddressTextMessage) == 7428 && offsetof(AddressTextMessage, family) == 258);

inline constexpr std::size_t kMaximumAddresses = 64;
inline constexpr std::size_t kMaximumGateways = 5;
inline constexpr std::size_t kMaximumDnsServers = 64;

using Ipv4Bytes = std::uint8_t[4];
using Ipv6Bytes = std::uint8_t[16];

/// The same from 5.0 on: addresses as bytes.
struct [[gnu::packed]] AddressMessage {
  KeyValueHeader header;
  std::uint32_t ipv4_address_count;
  std::uint32_t ipv6_address_count;
  std::uint32_t ipv4_gateway_count;
  std::uint32_t ipv6_gateway_count;
  std::uint32_t ipv4_dns_server_count;
  std::uint32_t ipv6_dns_server_count;
  std::uint8_t adapter[kAdapterIdSize];
  std::uint8_t family;
  std::uint8_t dhcp;
  std::uint8_t reserved[2];
  Ipv4Bytes ipv4_addresses[kMaximumAddresses];
  Ipv6Bytes ipv6_addresses[kMaximumAddresses];
  Ipv4Bytes ipv4_subnets[kMaximumAddresses];
  std::uint32_t ipv6_prefix_lengths[kMaximumAddresses];
  Ipv4Bytes ipv4_gateways[kMaximumGateways];
  Ipv6Bytes ipv6_gateways[kMaximumGateways];
  Ipv4Bytes ipv4_dns_servers[kMaximumDnsServers];
  Ipv6Bytes ipv6_dns_servers[kMaximumDnsServers];
  std::uint16_t origins[2 * kMaximumAddresses];
};
static_assert(sizeof(AddressMessage) == 4 + 3712 && offsetof(AddressMessage, family) == 4 + 280 &&
              offsetof(AddressMessage, ipv4_addresses) == 4 + 284 &&
              offsetof(AddressMessage, ipv4_subnets) == 4 + 1564 &&
              offsetof(AddressMessage, ipv4_dns_servers) == 4 + 2176 && offsetof(AddressMessage, origins) == 4 + 3456);

}  // namespace bulkhead::abi::integration
