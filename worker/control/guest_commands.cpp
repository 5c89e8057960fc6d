// SPDX-License-Identifier: Apache-2.0
//
// The commands that the guest carries out, through its integration services.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "worker/control/commands.hpp"

namespace bulkhead::worker::control {

using namespace vsp::integration;

namespace {

constexpr std::uint64_t kUsualFreezeSeconds = 60;
constexpr std::uint64_t kMostSeconds = 100'000;  // what can be counted in nanoseconds

struct NamedPool {
  std::string_view name;
  KeyValuePool pool;
};
constexpr std::array<NamedPool, 5> kPools = {{{"external", KeyValuePool::External},
                                              {"guest", KeyValuePool::Guest},
                                              {"auto", KeyValuePool::Auto},
                                              {"auto-external", KeyValuePool::AutoExternal},
                                              {"internal", KeyValuePool::Internal}}};

Result<KeyValuePool> pool_of(const std::string& name) {
  const auto found = std::ranges::find(kPools, name, &NamedPool::name);
  if (found != kPools.end()) return found->pool;
  return fail(fmt::format("'{}' is no pool; there are external, guest, auto, auto-external and internal", name));
}

Result<ShutdownKind> kind_of(const std::string& name) {
  if (name == "power-off") return ShutdownKind::PowerOff;
  if (name == "reboot") return ShutdownKind::Restart;
  if (name == "hibernate") return ShutdownKind::Hibernate;
  return fail(fmt::format("'{}' is none of power-off, reboot, hibernate", name));
}

/// The service of that kind. Error: the machine does not have it.
template <typename Service>
Result<Service*> service_of(ControlledMachine& machine, Service* (IntegrationServices::*get)(), std::string_view name) {
  auto* services = machine.integration();
  if (services == nullptr) return fail("this machine has no VMBus, and so no integration services");
  auto* service = (services->*get)();
  if (service == nullptr) return fail(fmt::format("the {} is switched off for this machine", name));
  return service;
}

Result<KeyValueExchange*> key_value_exchange_of(ControlledMachine& machine) {
  return service_of(machine, &IntegrationServices::key_value_exchange, "key-value exchange");
}

Result<VolumeSnapshot*> volume_snapshot_of(ControlledMachine& machine) {
  return service_of(machine, &IntegrationServices::volume_snapshot, "volume snapshot service");
}

}  // namespace

void Commands::shutdown(Arguments& arguments, const Reply& reply) {
  const auto kind = kind_of(arguments.text("kind", "power-off"));
  const bool force = arguments.flag("force");
  const std::string message = arguments.text("message", "");
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  if (!kind) return reply(std::unexpected(kind.error()));
  const auto lock = machine_.hold();
  const auto service = service_of(machine_, &IntegrationServices::shutdown, "shutdown service");
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->shut_down(*kind, force, message, done(reply));
}

void Commands::kvp_get(Arguments& arguments, const Reply& reply) {
  const auto pool = pool_of(arguments.text("pool", "guest"));
  const std::string key = arguments.text("key");
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  if (!pool) return reply(std::unexpected(pool.error()));
  const auto lock = machine_.hold();
  const auto service = key_value_exchange_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->get(*pool, key, [reply, key](Result<std::optional<std::string>> value) {
    if (!value) return reply(std::unexpected(value.error()));
    if (!*value) return reply(fail(fmt::format("there is no key '{}'", key)));
    reply(Json{{"value", **value}});
  });
}

void Commands::kvp_set(Arguments& arguments, const Reply& reply) {
  const auto pool = pool_of(arguments.text("pool", "external"));
  const std::string key = arguments.text("key");
  const std::string value = arguments.text("value");
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  if (!pool) return reply(std::unexpected(pool.error()));
  const auto lock = machine_.hold();
  const auto service = key_value_exchange_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->set(*pool, key, value, done(reply));
}

void Commands::kvp_delete(Arguments& arguments, const Reply& reply) {
  const auto pool = pool_of(arguments.text("pool", "external"));
  const std::string key = arguments.text("key");
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  if (!pool) return reply(std::unexpected(pool.error()));
  const auto lock = machine_.hold();
  const auto service = key_value_exchange_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->remove(*pool, key, done(reply));
}

void Commands::kvp_list(Arguments& arguments, const Reply& reply) {
  const auto pool = pool_of(arguments.text("pool", "guest"));
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  if (!pool) return reply(std::unexpected(pool.error()));
  const auto lock = machine_.hold();
  const auto service = key_value_exchange_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->enumerate(*pool, [reply](Result<std::vector<KeyValueItem>> items) {
    if (!items) return reply(std::unexpected(items.error()));
    Json list = Json::array();
    for (const auto& item : *items) list.push_back({{"key", item.key}, {"value", item.value}});
    reply(Json{{"items", std::move(list)}});
  });
}

void Commands::get_addresses(Arguments& arguments, const Reply& reply) {
  const std::string adapter = arguments.text("adapter");
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  const auto lock = machine_.hold();
  const auto service = key_value_exchange_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->get_addresses(adapter, [reply](Result<GuestAddresses> found) {
    if (!found) return reply(std::unexpected(found.error()));
    reply(Json{{"dhcp", found->dhcp},
               {"addresses", found->addresses},
               {"subnets", found->subnets},
               {"gateways", found->gateways},
               {"dnsServers", found->dns_servers}});
  });
}

void Commands::set_addresses(Arguments& arguments, const Reply& reply) {
  const std::string adapter = arguments.text("adapter");
  const GuestAddresses wanted{.dhcp = arguments.flag("dhcp"),
                              .addresses = arguments.texts("addresses"),
                              .subnets = arguments.texts("subnets"),
                              .gateways = arguments.texts("gateways"),
                              .dns_servers = arguments.texts("dnsServers")};
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  const auto lock = machine_.hold();
  const auto service = key_value_exchange_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->set_addresses(adapter, wanted, done(reply));
}

void Commands::freeze(Arguments& arguments, const Reply& reply) {
  const std::uint64_t seconds = arguments.number("seconds", kUsualFreezeSeconds);
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  const auto lock = machine_.hold();
  const auto service = volume_snapshot_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->freeze(std::chrono::seconds(std::min(seconds, kMostSeconds)), done(reply));
}

void Commands::thaw(Arguments& arguments, const Reply& reply) {
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  const auto lock = machine_.hold();
  const auto service = volume_snapshot_of(machine_);
  if (!service) return reply(std::unexpected(service.error()));
  (*service)->thaw(done(reply));
}

}  // namespace bulkhead::worker::control
