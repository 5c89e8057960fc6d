// SPDX-License-Identifier: Apache-2.0
#include "worker/control/commands.hpp"

#include <fmt/format.h>

#include <boost/asio/post.hpp>

namespace bulkhead::worker::control {
namespace {

constexpr std::uint64_t kPageSize = 4096;

/// The values of the guest's own that are worth a line, and what they are called here.
struct GuestFact {
  const char* key;
  const char* name;
};
constexpr GuestFact kGuestFacts[] = {{"FullyQualifiedDomainName", "hostName"},
                                     {"OSName", "osName"},
                                     {"OSVersion", "osVersion"},
                                     {"OSBuildNumber", "kernel"},
                                     {"ProcessorArchitecture", "architecture"}};

void append_addresses(Json& list, std::string_view addresses) {
  while (!addresses.empty()) {
    const std::size_t end = std::min(addresses.find(';'), addresses.size());
    if (end > 0) list.push_back(std::string(addresses.substr(0, end)));
    addresses.remove_prefix(std::min(end + 1, addresses.size()));
  }
}

Json guest_facts(const vsp::integration::KeyValueExchange& exchange) {
  Json guest = Json::object();
  for (const auto& fact : kGuestFacts) {
    if (const auto value = exchange.known(fact.key); !value.empty()) guest[fact.name] = std::string(value);
  }
  Json addresses = Json::array();
  append_addresses(addresses, exchange.known("NetworkAddressIPv4"));
  append_addresses(addresses, exchange.known("NetworkAddressIPv6"));
  if (!addresses.empty()) guest["addresses"] = std::move(addresses);
  return guest;
}

Json service_facts(IntegrationServices& services) {
  Json facts = Json::object();
  services.each([&](const vsp::integration::Service& service) {
    Json& one = facts[std::string(service.name())];
    one["phase"] = to_text(service.phase());
    if (service.phase() == vsp::integration::Phase::Ready) {
      const auto& version = service.versions().message;
      one["version"] = fmt::format("{}.{}", version.major, version.minor);
    }
    one["unanswered"] = service.faults().unanswered;
    one["unexpected"] = service.faults().unexpected;
    one["malformed"] = service.faults().malformed;
  });
  return facts;
}

Json memory_facts(const MachineFacts& facts, const vsp::memory::DynamicMemory* dynamic) {
  if (dynamic == nullptr) return {{"dynamic", false}, {"assigned", facts.memory_size}};
  const auto& limits = dynamic->limits();
  Json memory = {{"dynamic", true},
                 {"status", dynamic->status()},
                 {"assigned", dynamic->account().assigned() * kPageSize},
                 {"startup", facts.memory_size},
                 {"minimum", limits.minimum * kPageSize},
                 {"maximum", limits.maximum * kPageSize},
                 {"buffer", limits.buffer_percent},
                 {"weight", limits.weight},
                 {"refused", dynamic->refused()}};
  if (const auto report = dynamic->report()) {
    memory["demand"] = report->demand * kPageSize;
    memory["available"] = report->available * kPageSize;
  }
  return memory;
}

}  // namespace

Json to_json(const state::Inspection& node) {
  Json object = Json::object();
  for (const auto& [name, value] : node.values()) {
    std::visit([&, &key = name](const auto& content) { object[key] = content; }, value);
  }
  for (const auto& [name, child] : node.children()) object[name] = to_json(child);
  return object;
}

const std::map<std::string, Commands::Command, std::less<>>& Commands::table() {
  static const std::map<std::string, Command, std::less<>> commands = {
      {"status", &Commands::status},
      {"inspect", &Commands::inspect},
      {"pause", &Commands::pause},
      {"resume", &Commands::resume},
      {"turn-off", &Commands::turn_off},
      {"reset", &Commands::reset},
      {"set-memory", &Commands::set_memory},
      {"set-limits", &Commands::set_limits},
      {"detach-disk", &Commands::detach_disk},
      {"resize-disk", &Commands::resize_disk},
      {"shutdown", &Commands::shutdown},
      {"kvp-get", &Commands::kvp_get},
      {"kvp-set", &Commands::kvp_set},
      {"kvp-delete", &Commands::kvp_delete},
      {"kvp-list", &Commands::kvp_list},
      {"get-addresses", &Commands::get_addresses},
      {"set-addresses", &Commands::set_addresses},
      {"freeze", &Commands::freeze},
      {"thaw", &Commands::thaw},
  };
  return commands;
}

Abandoned Commands::handle(const std::string& what, const Json& request, Files files, Reply reply) {
  Arguments arguments(request);
  const Reply later = by_event_loop(std::move(reply));
  // The only ones that use files.
  if (what == "copy") return copy(arguments, std::move(files), later);
  if (what == "attach-disk") return attach_disk(arguments, std::move(files), later), nullptr;
  const auto command = table().find(what);
  if (command == table().end()) {
    later(fail(fmt::format("there is no command '{}'", what)));
    return nullptr;
  }
  (this->*command->second)(arguments, later);
  return nullptr;
}

Reply Commands::by_event_loop(Reply reply) {
  return [&event_loop = event_loop_, reply = std::move(reply)](Result<Json> result) {
    boost::asio::post(event_loop, [reply, result = std::move(result)]() mutable { reply(std::move(result)); });
  };
}

std::function<void(Result<>)> Commands::done(const Reply& reply) {
  return [reply](Result<> result) {
    if (result)
      reply(Json::object());
    else
      reply(std::unexpected(result.error()));
  };
}

void Commands::status(Arguments& arguments, const Reply& reply) {
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  const MachineFacts facts = machine_.facts();
  Json object = {{"name", facts.name},
                 {"state", facts.paused ? "paused" : "running"},
                 {"engine", facts.engine},
                 {"vps", facts.vp_count},
                 {"uptime", static_cast<double>(facts.uptime_milliseconds) / 1000},
                 {"restarts", facts.restarts}};
  const auto lock = machine_.hold();
  if (auto* services = machine_.integration()) {
    if (auto* heartbeat = services->heartbeat()) object["heartbeat"] = to_text(heartbeat->heartbeat());
    if (auto* exchange = services->key_value_exchange()) object["guest"] = guest_facts(*exchange);
    object["services"] = service_facts(*services);
  }
  object["memory"] = memory_facts(facts, machine_.dynamic_memory());
  reply(std::move(object));
}

void Commands::inspect(Arguments& arguments, const Reply& reply) {
  if (auto read = arguments.finish(); !read) return reply(std::unexpected(read.error()));
  state::Inspection tree;
  machine_.inspect(tree);
  reply(to_json(tree));
}

void Commands::pause(Arguments& arguments, const Reply& reply) {
  auto result = arguments.finish();
  if (result) result = machine_.pause();
  done(reply)(std::move(result));
}

void Commands::resume(Arguments& arguments, const Reply& reply) {
  auto result = arguments.finish();
  if (result) result = machine_.resume();
  done(reply)(std::move(result));
}

void Commands::turn_off(Arguments& arguments, const Reply& reply) {
  const auto result = arguments.finish();
  if (!result) return reply(std::unexpected(result.error()));
  // Before it: afterwards nobody may be there any more to send the answer.
  reply(Json::object());
  machine_.turn_off();
}

void Commands::reset(Arguments& arguments, const Reply& reply) {
  const auto result = arguments.finish();
  if (!result) return reply(std::unexpected(result.error()));
  reply(Json::object());
  machine_.reset();
}

void Commands::set_memory(Arguments& arguments, const Reply& reply) {
  const auto lock = machine_.hold();
  auto* dynamic = machine_.dynamic_memory();
  if (dynamic == nullptr) return reply(fail("this machine's memory is not dynamic"));
  vsp::memory::MemoryLimits limits = dynamic->limits();
  limits.minimum = arguments.number("minimum", limits.minimum * kPageSize) / kPageSize;
  limits.maximum = arguments.number("maximum", limits.maximum * kPageSize) / kPageSize;
  limits.buffer_percent = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(arguments.number("buffer", limits.buffer_percent), UINT32_MAX));
  limits.weight =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(arguments.number("weight", limits.weight), UINT32_MAX));
  auto result = arguments.finish();
  if (result) result = dynamic->set_limits(limits);
  done(reply)(std::move(result));
}

}  // namespace bulkhead::worker::control
