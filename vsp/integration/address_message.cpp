// SPDX-License-Identifier: Apache-2.0
//
// The messages of key-value exchange about network addresses: text before version 5.0, bytes from it on.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "vsp/integration/key_value_message.hpp"
#include "vsp/integration/text.hpp"

namespace bulkhead::vsp::integration {

using namespace abi::integration;

namespace {

constexpr Version kFirstWithBytes{5, 0};

bool is_ipv4(const std::string& text) {
  in_addr address{};
  return inet_pton(AF_INET, text.c_str(), &address) == 1;
}

bool is_ipv6(const std::string& text) {
  in6_addr address{};
  return inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

Result<> check_addresses(const std::vector<std::string>& list, std::string_view what) {
  for (const auto& text : list) {
    if (!is_ipv4(text) && !is_ipv6(text)) return fail(fmt::format("'{}' is no {}", text, what));
  }
  return {};
}

Result<std::uint32_t> prefix_length(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > 128) {
    return fail(fmt::format("'{}' is no prefix length of an IPv6 address", text));
  }
  return value;
}

Result<> check(const GuestAddresses& wanted) {
  if (auto checked = check_addresses(wanted.addresses, "IP address"); !checked) return checked;
  if (auto checked = check_addresses(wanted.gateways, "gateway's IP address"); !checked) return checked;
  if (auto checked = check_addresses(wanted.dns_servers, "DNS server's IP address"); !checked) return checked;
  if (wanted.dhcp) return {};
  if (wanted.addresses.empty()) return fail("neither DHCP nor an IP address is wanted");
  if (wanted.subnets.size() != wanted.addresses.size()) return fail("each IP address needs its subnet mask or prefix");
  for (std::size_t index = 0; index < wanted.subnets.size(); ++index) {
    const auto& subnet = wanted.subnets[index];
    if (is_ipv4(wanted.addresses[index])) {
      if (!is_ipv4(subnet)) return fail(fmt::format("'{}' is no subnet mask of an IPv4 address", subnet));
    } else if (auto length = prefix_length(subnet); !length) {
      return std::unexpected(length.error());
    }
  }
  return {};
}

std::uint8_t families_of(const GuestAddresses& wanted) {
  if (wanted.addresses.empty()) return AddressFamily::kIpv4;
  const bool any_ipv4 = std::ranges::any_of(wanted.addresses, is_ipv4);
  const bool any_ipv6 = std::ranges::any_of(wanted.addresses, is_ipv6);
  return static_cast<std::uint8_t>((any_ipv4 ? AddressFamily::kIpv4 : 0) | (any_ipv6 ? AddressFamily::kIpv6 : 0));
}

Result<> put_list(std::span<std::uint8_t> field, const std::vector<std::string>& list, std::string_view what) {
  const auto text = to_utf16(fmt::format("{}", fmt::join(list, ";")), field.size() / 2 - 1, what);
  if (!text) return std::unexpected(text.error());
  put_text(field, *text);
  return {};
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(';', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Result<Bytes> text_message(KeyValueOperation operation, const std::u16string& adapter, const GuestAddresses& wanted) {
  AddressTextMessage message{};
  message.operation = operation;
  put_text(message.adapter, adapter);
  message.family = families_of(wanted);
  message.dhcp = wanted.dhcp ? 1 : 0;
  if (auto put = put_list(message.addresses, wanted.addresses, "list of addresses"); !put) {
    return std::unexpected(put.error());
  }
  if (auto put = put_list(message.subnets, wanted.subnets, "list of subnets"); !put) {
    return std::unexpected(put.error());
  }
  if (auto put = put_list(message.gateways, wanted.gateways, "list of gateways"); !put) {
    return std::unexpected(put.error());
  }
  if (auto put = put_list(message.dns_servers, wanted.dns_servers, "list of DNS servers"); !put) {
    return std::unexpected(put.error());
  }
  const auto bytes = bytes_of(message);
  return Bytes(bytes.begin(), bytes.end());
}

/// The addresses of both families into their arrays; the error names what there is too much of.
Result<> put_binary(const std::vector<std::string>& list, std::span<Ipv4Bytes> ipv4, std::uint32_t& ipv4_count,
                    std::span<Ipv6Bytes> ipv6, std::uint32_t& ipv6_count, std::string_view what) {
  for (const auto& text : list) {
    const bool is_4 = is_ipv4(text);
    if (is_4 ? ipv4_count == ipv4.size() : ipv6_count == ipv6.size()) return fail(fmt::format("too many {}", what));
    if (is_4)
      inet_pton(AF_INET, text.c_str(), ipv4[ipv4_count++]);
    else
      inet_pton(AF_INET6, text.c_str(), ipv6[ipv6_count++]);
  }
  return {};
}

Result<Bytes> binary_message(KeyValueOperation operation, const std::u16string& adapter, const GuestAddresses& wanted) {
  AddressMessage message{};
  message.header = {.operation = operation, .pool = KeyValuePool::External, .reserved = 0};
  put_text(message.adapter, adapter);
  message.family = families_of(wanted);
  message.dhcp = wanted.dhcp ? 1 : 0;
  // The fields are at odd places of a packed structure: counts are collected here, arrays consist of bytes.
  std::uint32_t v4 = 0;
  std::uint32_t v6 = 0;
  if (auto put = put_binary(wanted.addresses, message.ipv4_addresses, v4, message.ipv6_addresses, v6, "addresses");
      !put) {
    return std::unexpected(put.error());
  }
  message.ipv4_address_count = v4;
  message.ipv6_address_count = v6;
  v4 = v6 = 0;
  for (std::size_t index = 0; index < wanted.subnets.size() && index < wanted.addresses.size(); ++index) {
    if (is_ipv4(wanted.addresses[index]))
      inet_pton(AF_INET, wanted.subnets[index].c_str(), message.ipv4_subnets[v4++]);
    else
      message.ipv6_prefix_lengths[v6++] = *prefix_length(wanted.subnets[index]);
  }
  v4 = v6 = 0;
  if (auto put = put_binary(wanted.gateways, message.ipv4_gateways, v4, message.ipv6_gateways, v6, "gateways"); !put) {
    return std::unexpected(put.error());
  }
  message.ipv4_gateway_count = v4;
  message.ipv6_gateway_count = v6;
  v4 = v6 = 0;
  if (auto put =
          put_binary(wanted.dns_servers, message.ipv4_dns_servers, v4, message.ipv6_dns_servers, v6, "DNS servers");
      !put) {
    return std::unexpected(put.error());
  }
  message.ipv4_dns_server_count = v4;
  message.ipv6_dns_server_count = v6;
  const auto bytes = bytes_of(message);
  return Bytes(bytes.begin(), bytes.end());
}

/// As guests have it and compare it letter by letter: MAC addresses in capitals, GUIDs in braces and small letters.
std::string adapter_of(std::string_view text) {
  std::string name(text);
  const auto each_letter = [&](auto change) { std::ranges::transform(name, name.begin(), change); };
  const auto dashes = std::ranges::count(name, '-');
  if (std::ranges::count(name, ':') == 5 && name.size() == 17) {
    each_letter([](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  } else if (dashes == 4 && (name.size() == 36 || name.size() == 38)) {
    each_letter([](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (name.size() == 36) name = "{" + name + "}";
  }
  return name;
}

Result<Bytes> message(KeyValueOperation operation, const Versions& versions, std::string_view adapter,
                      const GuestAddresses& wanted) {
  const auto name = to_utf16(adapter_of(adapter), kAdapterIdSize / 2 - 1, "adapter's name");
  if (!name) return std::unexpected(name.error());
  return versions.message >= kFirstWithBytes ? binary_message(operation, *name, wanted)
                                             : text_message(operation, *name, wanted);
}

template <std::size_t kSize>
void add_texts(std::vector<std::string>& list, int family, std::span<const std::uint8_t[kSize]> addresses,
               std::uint32_t count) {
  for (const auto& address : addresses.first(std::min<std::size_t>(count, addresses.size()))) {
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(family, address, text, sizeof text) != nullptr) list.emplace_back(text);
  }
}

std::optional<GuestAddresses> parse_binary(std::span<const std::uint8_t> body) {
  const auto message = front_of<AddressMessage>(body);
  if (!message) return std::nullopt;
  const auto& m = *message;
  GuestAddresses found;
  found.dhcp = m.dhcp != 0;
  add_texts<4>(found.addresses, AF_INET, m.ipv4_addresses, m.ipv4_address_count);
  add_texts<16>(found.addresses, AF_INET6, m.ipv6_addresses, m.ipv6_address_count);
  add_texts<4>(found.subnets, AF_INET, m.ipv4_subnets, m.ipv4_address_count);
  for (std::size_t index = 0; index < m.ipv6_address_count && index < kMaximumAddresses; ++index) {
    const std::uint32_t length = m.ipv6_prefix_lengths[index];
    found.subnets.push_back(fmt::to_string(length));
  }
  add_texts<4>(found.gateways, AF_INET, m.ipv4_gateways, m.ipv4_gateway_count);
  add_texts<16>(found.gateways, AF_INET6, m.ipv6_gateways, m.ipv6_gateway_count);
  add_texts<4>(found.dns_servers, AF_INET, m.ipv4_dns_servers, m.ipv4_dns_server_count);
  add_texts<16>(found.dns_servers, AF_INET6, m.ipv6_dns_servers, m.ipv6_dns_server_count);
  return found;
}

std::optional<GuestAddresses> parse_text(std::span<const std::uint8_t> body) {
  const auto message = front_of<AddressTextMessage>(body);
  if (!message) return std::nullopt;
  auto subnets = split(to_utf8(message->subnets));
  for (auto& subnet : subnets) subnet.erase(0, subnet.starts_with('/') ? 1 : 0);  // how Linux writes prefix lengths
  return GuestAddresses{.dhcp = message->dhcp != 0,
                        .addresses = split(to_utf8(message->addresses)),
                        .subnets = std::move(subnets),
                        .gateways = split(to_utf8(message->gateways)),
                        .dns_servers = split(to_utf8(message->dns_servers))};
}

}  // namespace

Result<Bytes> get_addresses_message(const Versions& versions, std::string_view adapter) {
  return message(KeyValueOperation::GetAddresses, versions, adapter, {});
}

Result<Bytes> set_addresses_message(const Versions& versions, std::string_view adapter, const GuestAddresses& wanted) {
  if (auto checked = check(wanted); !checked) return std::unexpected(checked.error());
  return message(KeyValueOperation::SetAddresses, versions, adapter, wanted);
}

std::optional<GuestAddresses> parse_addresses_answer(const Versions& versions, std::span<const std::uint8_t> body) {
  return versions.message >= kFirstWithBytes ? parse_binary(body) : parse_text(body);
}

}  // namespace bulkhead::vsp::integration
