// SPDX-License-Identifier: Apache-2.0
#include "cli/machine_commands.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/control_client.hpp"
#include "cli/disk_attachment.hpp"
#include "cli/machine_report.hpp"
#include "cli/size.hpp"

namespace bulkhead::cli {
namespace {

/// What the options of all these commands were set to; each command uses some of them.
struct Options {
  std::string name;
  std::string kind;  // of a shutdown
  std::string message;
  std::string pool;
  std::string key;
  std::string value;
  std::string adapter;
  std::vector<std::string> addresses;
  std::vector<std::string> subnets;
  std::vector<std::string> gateways;
  std::vector<std::string> dns_servers;
  std::string source;
  std::string destination;
  std::string minimum;
  std::string maximum;
  std::optional<std::uint32_t> buffer;
  std::optional<std::uint32_t> weight;
  std::uint32_t seconds = 60;
  bool force = false;
  bool wait = false;
  bool as_json = false;
  bool dhcp = false;
  bool overwrite = false;
  bool create_folder = false;
  std::string disk;  // as cli/disk_attachment.hpp has them
  std::uint32_t number = 0;
  std::string size;
  std::uint64_t iops = 0;
  std::string bps;
  bool dvd = false;
};

using Action = Result<> (*)(ControlClient& machine, const Options& options);

Result<> simply(ControlClient& machine, Json request) {
  auto result = machine.call(std::move(request));
  if (!result) return std::unexpected(result.error());
  return {};
}

Result<> show_status(ControlClient& machine, const Options& options) {
  const auto status = machine.call({{"do", "status"}});
  if (!status) return std::unexpected(status.error());
  fmt::print("{}", options.as_json ? status->dump(2) + "\n" : status_text(*status));
  return {};
}

Result<> show_tree(ControlClient& machine, const Options& options) {
  const auto tree = machine.call({{"do", "inspect"}});
  if (!tree) return std::unexpected(tree.error());
  fmt::print("{}", options.as_json ? tree->dump(2) + "\n" : tree_text(*tree));
  return {};
}

Result<> show_events(ControlClient& machine, const Options&) {
  if (auto asked = simply(machine, {{"do", "events"}}); !asked) return asked;
  while (const auto event = machine.receive()) {
    fmt::print("{}\n", event->dump());
    std::fflush(stdout);
  }
  return {};
}

/// Until the machine has ended, or begun anew.
Result<> wait_for_event(ControlClient& machine, std::string_view wanted) {
  while (const auto event = machine.receive()) {
    if (event->value("event", "") == wanted) return {};
  }
  if (wanted == "ended") return {};
  return fail("the machine has ended");
}

Result<> shut_down(ControlClient& machine, const Options& options) {
  if (options.wait) {
    if (auto asked = simply(machine, {{"do", "events"}}); !asked) return asked;
  }
  Json request = {{"do", "shutdown"}, {"kind", options.kind}, {"force", options.force}};
  if (!options.message.empty()) request["message"] = options.message;
  if (auto agreed = simply(machine, std::move(request)); !agreed || !options.wait) return agreed;
  return wait_for_event(machine, options.kind == "reboot" ? "restarted" : "ended");
}

Result<> turn_off(ControlClient& machine, const Options&) { return simply(machine, {{"do", "turn-off"}}); }
Result<> reset(ControlClient& machine, const Options&) { return simply(machine, {{"do", "reset"}}); }
Result<> pause(ControlClient& machine, const Options&) { return simply(machine, {{"do", "pause"}}); }
Result<> resume(ControlClient& machine, const Options&) { return simply(machine, {{"do", "resume"}}); }
Result<> thaw(ControlClient& machine, const Options&) { return simply(machine, {{"do", "thaw"}}); }

Result<> freeze(ControlClient& machine, const Options& options) {
  return simply(machine, {{"do", "freeze"}, {"seconds", options.seconds}});
}

Json kvp_request(const char* what, const Options& options) {
  Json request = {{"do", what}};
  if (!options.pool.empty()) request["pool"] = options.pool;
  return request;
}

Result<> kvp_get(ControlClient& machine, const Options& options) {
  Json request = kvp_request("kvp-get", options);
  request["key"] = options.key;
  const auto result = machine.call(std::move(request));
  if (!result) return std::unexpected(result.error());
  fmt::print("{}\n", result->value("value", ""));
  return {};
}

Result<> kvp_set(ControlClient& machine, const Options& options) {
  Json request = kvp_request("kvp-set", options);
  request["key"] = options.key;
  request["value"] = options.value;
  return simply(machine, std::move(request));
}

Result<> kvp_delete(ControlClient& machine, const Options& options) {
  Json request = kvp_request("kvp-delete", options);
  request["key"] = options.key;
  return simply(machine, std::move(request));
}

Result<> kvp_list(ControlClient& machine, const Options& options) {
  const auto result = machine.call(kvp_request("kvp-list", options));
  if (!result) return std::unexpected(result.error());
  for (const auto& item : (*result)["items"]) fmt::print("{}={}\n", item.value("key", ""), item.value("value", ""));
  return {};
}

Result<> get_addresses(ControlClient& machine, const Options& options) {
  const auto result = machine.call({{"do", "get-addresses"}, {"adapter", options.adapter}});
  if (!result) return std::unexpected(result.error());
  fmt::print("{}\n", result->dump(2));
  return {};
}

Result<> set_addresses(ControlClient& machine, const Options& options) {
  return simply(machine, {{"do", "set-addresses"},
                          {"adapter", options.adapter},
                          {"dhcp", options.dhcp},
                          {"addresses", options.addresses},
                          {"subnets", options.subnets},
                          {"gateways", options.gateways},
                          {"dnsServers", options.dns_servers}});
}

Result<> copy(ControlClient& machine, const Options& options) {
  const std::size_t slash = options.destination.rfind('/');
  if (slash == std::string::npos || slash + 1 == options.destination.size()) {
    return fail(fmt::format("'{}' is no path of a file in the guest, such as /root/notes", options.destination));
  }
  const engine::FileDescriptor file(open(options.source.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open())
    return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'", options.source), errno));
  auto result = machine.call({{"do", "copy"},
                              {"folder", options.destination.substr(0, slash + 1)},
                              {"name", options.destination.substr(slash + 1)},
                              {"overwrite", options.overwrite},
                              {"createFolder", options.create_folder}},
                             std::span(&file, 1));
  if (!result) return std::unexpected(result.error());
  return {};
}

Result<> attach_disk(ControlClient& machine, const Options& options) {
  const auto disk = options.dvd ? open_dvd_files(options.disk) : open_disk_files(options.disk);
  if (!disk) return std::unexpected(disk.error());
  const auto& option = disk->option;
  if (option.bus != "scsi") return fail("only SCSI disks can be attached to a running machine");
  Json request = {{"do", "attach-disk"}, {"kind", option.kind},          {"format", option.format},
                  {"iops", option.iops}, {"readOnly", option.read_only}, {"bps", option.bps}};
  if (option.number) request["number"] = *option.number;
  request["paths"] = Json::array();
  for (const auto& file : option.files) request["paths"].push_back(file.path);
  const auto result = machine.call(std::move(request), disk->files);
  if (!result) return std::unexpected(result.error());
  fmt::print("{}\n", result->value("number", 0));
  return {};
}

Result<> detach_disk(ControlClient& machine, const Options& options) {
  return simply(machine, {{"do", "detach-disk"}, {"number", options.number}});
}

Result<> resize_disk(ControlClient& machine, const Options& options) {
  const auto size = parse_size(options.size);
  if (!size) return std::unexpected(size.error());
  return simply(machine, {{"do", "resize-disk"}, {"number", options.number}, {"size", *size}});
}

Result<> limit_disk(ControlClient& machine, const Options& options) {
  Json request = {{"do", "set-limits"}, {"number", options.number}, {"iops", options.iops}};
  if (!options.bps.empty()) {
    const auto size = parse_size(options.bps);
    if (!size) return std::unexpected(size.error());
    request["bps"] = *size;
  }
  return simply(machine, std::move(request));
}

Result<> set_memory(ControlClient& machine, const Options& options) {
  Json request = {{"do", "set-memory"}};
  for (const auto& [name, text] : {std::pair("minimum", &options.minimum), std::pair("maximum", &options.maximum)}) {
    if (text->empty()) continue;
    const auto size = parse_size(*text);
    if (!size) return std::unexpected(size.error());
    request[name] = *size;
  }
  if (options.buffer) request["buffer"] = *options.buffer;
  if (options.weight) request["weight"] = *options.weight;
  return simply(machine, std::move(request));
}

int carry_out(Action action, const Options& options) {
  auto machine = ControlClient::connect(options.name);
  Result<> done;
  if (!machine)
    done = std::unexpected(machine.error());
  else
    done = action(*machine, options);
  if (done) return 0;
  fmt::print(stderr, "bulkhead: {}: {}\n", options.name, done.error().message());
  return 1;
}

/// Adds commands to an application or a command, all with a machine's name as their first argument.
class Adder {
 public:
  Adder(CLI::App& app, const std::shared_ptr<Options>& options, int& status)
      : app_(app), options_(options), status_(status) {}

  CLI::App* add(const char* name, const char* description, Action action) {
    auto* command = app_.add_subcommand(name, description);
    command->add_option("NAME", options_->name, "The machine's name")->required();
    command->callback([options = options_, action, &status = status_] { status = carry_out(action, *options); });
    return command;
  }

 private:
  CLI::App& app_;
  std::shared_ptr<Options> options_;
  int& status_;
};

void add_looking(Adder& adder, Options& options) {
  auto* status = adder.add("status", "How a running machine is", show_status);
  status->add_flag("--json", options.as_json, "As one JSON object");
  auto* tree = adder.add("inspect", "The live state of a running machine's parts", show_tree);
  tree->add_flag("--json", options.as_json, "As one JSON object");
  adder.add("events", "What happens to a running machine, a line of JSON each, until it ends", show_events);
}

void add_shutdown(Adder& adder, Options& options, const char* name, const char* description, const char* kind) {
  auto* command = adder.add(name, description, shut_down);
  command->add_flag("--force", options.force, "The guest is not to ask its users");
  command->add_option("--message", options.message, "A text for the guest's users");
  command->add_flag("--wait", options.wait, "Return when it is done, not when the guest has agreed");
  command->parse_complete_callback([&options, kind] { options.kind = kind; });
}

void add_power(Adder& adder, Options& options) {
  add_shutdown(adder, options, "shutdown", "Ask a guest to power off", "power-off");
  add_shutdown(adder, options, "reboot", "Ask a guest to reboot", "reboot");
  add_shutdown(adder, options, "hibernate", "Ask a guest to hibernate", "hibernate");
  adder.add("stop", "Turn a machine off at once; the guest is not asked", turn_off);
  adder.add("reset", "Reset a machine at once; the guest is not asked", reset);
  adder.add("pause", "Stop a machine's processors and its clock", pause);
  adder.add("resume", "Let a paused machine go on", resume);
}

void add_kvp(CLI::App& app, const std::shared_ptr<Options>& options, int& status) {
  auto* kvp = app.add_subcommand("kvp", "Keys and values that guest and host share")->require_subcommand(1);
  Adder adder(*kvp, options, status);
  const auto add = [&](const char* name, const char* description, Action action, const char* pool) {
    auto* command = adder.add(name, description, action);
    command->add_option("--pool", options->pool,
                        fmt::format("external, guest, auto, auto-external or internal ({})", pool));
    return command;
  };
  add("get", "Print the value of a key", kvp_get, "guest")->add_option("KEY", options->key)->required();
  auto* set = add("set", "Set a key", kvp_set, "external");
  set->add_option("KEY", options->key)->required();
  set->add_option("VALUE", options->value)->required();
  add("delete", "Delete a key", kvp_delete, "external")->add_option("KEY", options->key)->required();
  add("list", "Print keys and values", kvp_list, "guest");
}

void add_addresses(CLI::App& app, const std::shared_ptr<Options>& options, int& status) {
  auto* addresses = app.add_subcommand("addresses", "Network addresses of a guest's adapter")->require_subcommand(1);
  Adder adder(*addresses, options, status);
  adder.add("get", "Print them", get_addresses)
      ->add_option("ADAPTER", options->adapter, "The adapter's MAC address")
      ->required();
  auto* set = adder.add("set", "Set them", set_addresses);
  set->add_option("ADAPTER", options->adapter, "The adapter's instance, a GUID")->required();
  set->add_flag("--dhcp", options->dhcp, "By DHCP");
  set->add_option("--address", options->addresses, "An IP address; may be given again");
  set->add_option("--subnet", options->subnets, "Its subnet mask or prefix length");
  set->add_option("--gateway", options->gateways, "A gateway");
  set->add_option("--dns", options->dns_servers, "A DNS server");
}

void add_guest_files(Adder& adder, Options& options) {
  adder.add("freeze", "Hold the writes to a guest's file systems", freeze)
      ->add_option("--seconds", options.seconds, "Let go after this time")
      ->capture_default_str();
  adder.add("thaw", "Let go of a guest's file systems", thaw);
  auto* command = adder.add("copy", "Copy a file into a guest", copy);
  command->add_option("SOURCE", options.source, "A file of this host")->required();
  command->add_option("DESTINATION", options.destination, "A path in the guest")->required();
  command->add_flag("--overwrite", options.overwrite, "Also if it is there already");
  command->add_flag("--create-folder", options.create_folder, "Make the folder if it is not there");
}

void add_disks(Adder& adder, Options& options) {
  auto* attach = adder.add("attach-disk", "Give a running machine a disk, and print its number", attach_disk);
  attach->add_option("DISK", options.disk, "As --disk of `bulkhead run` has it")->required();
  attach->add_flag("--dvd", options.dvd, "A DVD drive with this ISO image in it, or none");
  const auto add = [&](const char* name, const char* description, Action action) {
    auto* command = adder.add(name, description, action);
    command->add_option("NUMBER", options.number, "The disk's place on the SCSI controller")->required();
    return command;
  };
  add("detach-disk", "Take a disk from a running machine; returns when its image is closed", detach_disk);
  add("resize-disk", "Make a disk of a running machine larger", resize_disk)
      ->add_option("SIZE", options.size, "For example 20G")
      ->required();
  auto* limit = add("limit-disk", "Change what a disk may do in a second", limit_disk);
  limit->add_option("--iops", options.iops, "Reads and writes; 0, as without this: no limit");
  limit->add_option("--bps", options.bps, "Bytes, for example 50M");
}

void add_memory(Adder& adder, Options& options) {
  auto* command = adder.add("memory", "Change the limits of a machine's dynamic memory", set_memory);
  command->add_option("--minimum", options.minimum, "The least, for example 256M");
  command->add_option("--maximum", options.maximum, "The most");
  command->add_option("--buffer", options.buffer, "Percent more than is needed");
  command->add_option("--weight", options.weight, "0 to 10000, who gets memory first");
}

}  // namespace

void add_machine_commands(CLI::App& app, int& status) {
  const auto options = std::make_shared<Options>();
  Adder adder(app, options, status);
  add_looking(adder, *options);
  add_power(adder, *options);
  add_kvp(app, options, status);
  add_addresses(app, options, status);
  add_guest_files(adder, *options);
  add_disks(adder, *options);
  add_memory(adder, *options);
}

}  // namespace bulkhead::cli
