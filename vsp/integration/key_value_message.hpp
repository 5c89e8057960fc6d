// SPDX-License-Identifier: Apache-2.0
//
// The messages of key-value exchange, put together and taken apart. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "abi/integration/key_value.hpp"
#include "vsp/integration/message.hpp"

namespace bulkhead::vsp::integration {

using KeyValuePool = abi::integration::KeyValuePool;

struct KeyValueItem {
  std::string key;
  std::string value;

  bool operator==(const KeyValueItem&) const = default;
};

/// A network adapter's addresses in the guest.
struct GuestAddresses {
  bool dhcp = false;
  std::vector<std::string> addresses = {};  // IPv4 and IPv6
  std::vector<std::string> subnets = {};    // masks of IPv4 addresses, prefix lengths of IPv6 ones, in their order
  std::vector<std::string> gateways = {};
  std::vector<std::string> dns_servers = {};

  bool operator==(const GuestAddresses&) const = default;
};

// Requests. Errors: text that cannot be sent; addresses that are none, or too many.
Result<Bytes> get_message(KeyValuePool pool, std::string_view key);
Result<Bytes> set_message(KeyValuePool pool, std::string_view key, std::string_view value);
Result<Bytes> delete_message(KeyValuePool pool, std::string_view key);
Bytes enumerate_message(KeyValuePool pool, std::uint32_t index);
/// `adapter` is the adapter's MAC address or instance (a GUID), in any spelling, or another name that the guest knows.
Result<Bytes> get_addresses_message(const Versions& versions, std::string_view adapter);
Result<Bytes> set_addresses_message(const Versions& versions, std::string_view adapter, const GuestAddresses& wanted);

// Answers. Nothing: the body makes no sense.
std::optional<KeyValueItem> parse_get_answer(std::span<const std::uint8_t> body);
std::optional<KeyValueItem> parse_enumerate_answer(std::span<const std::uint8_t> body);
std::optional<GuestAddresses> parse_addresses_answer(const Versions& versions, std::span<const std::uint8_t> body);

}  // namespace bulkhead::vsp::integration
