// SPDX-License-Identifier: Apache-2.0
//
// bulkhead: the command line. What each command does is in the file of its name.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "cli/disk_command.hpp"
#include "cli/host_command.hpp"
#include "cli/machine_commands.hpp"
#include "cli/run_command.hpp"
#include "worker/ending.hpp"

namespace bulkhead::cli {
namespace {

void add_run(CLI::App& app, int& status) {
  const auto made = std::make_shared<RunOptions>();
  RunOptions& options = *made;
  auto* run = app.add_subcommand("run", "Start a virtual machine and be its console until it ends");
  run->add_option("--kernel", options.kernel, "A Linux bzImage or a Multiboot 1 ELF image")->required();
  run->add_option("--initrd", options.initrd, "The kernel's initial RAM disk, or its one Multiboot module");
  run->add_option("--cmdline", options.arguments, "The kernel's command line");
  run->add_option("--firmware", options.firmware,
                  "What starts the kernel: none (it is entered directly) or bios (SeaBIOS, for real-mode kernels)")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "bios"}));
  run->add_option("--memory", options.memory, "For example 512M or 2G")->capture_default_str();
  run->add_option("--vps", options.vps, "Number of virtual processors")->capture_default_str();
  run->add_option("--console", options.console, "Where the guest's COM1 goes: stdio, none, or file:PATH")
      ->capture_default_str()
      ->check([](const std::string& value) {
        const bool known = value == "stdio" || value == "none" || (value.starts_with("file:") && value.size() > 5);
        return known ? "" : fmt::format("'{}' is none of stdio, none, file:PATH", value);
      });
  run->add_option("--engine", options.engine, "native, kvm or auto")
      ->capture_default_str()
      ->check(CLI::IsMember({"native", "kvm", "auto"}));
  run->add_option("--on-reset", options.on_reset, "What a reset or triple fault does: exit or restart")
      ->capture_default_str()
      ->check(CLI::IsMember({"exit", "restart"}));
  run->add_option("--name", options.name, "Its name, by which other commands find it")->capture_default_str();
  auto* vmbus = run->add_flag_callback(
      "--vmbus", [&options] { options.vmbus = true; },
      "Give the guest a VMBus with the integration services, or do not start; without this: if the engine can");
  run->add_flag_callback(
         "--no-vmbus", [&options] { options.vmbus = false; }, "Give the guest no VMBus")
      ->excludes(vmbus);
  run->add_option("--integration", options.integration,
                  "The integration services: all, none, or some of heartbeat, shutdown, time-synchronization, "
                  "key-value-exchange, volume-snapshot, file-copy, divided by commas");
  run->add_option("--memory-minimum", options.memory_minimum, "Dynamic memory: the least; as --memory if not given");
  run->add_option("--memory-maximum", options.memory_maximum, "Dynamic memory: the most; as --memory if not given");
  run->add_option("--memory-buffer", options.memory_buffer, "Dynamic memory: percent more than is needed (20)")
      ->check(CLI::Range(0, 2000));
  run->add_option("--memory-weight", options.memory_weight, "Dynamic memory: 0 to 10000, who gets it first (5000)")
      ->check(CLI::Range(0, 10000));
  run->add_option("--disk", options.disks,
                  "A disk, raw, VHD or VHDX: FILE[,read-only][,iops=N][,bps=SIZE][,format=raw|vhd|vhdx][,bus=scsi|ide]"
                  "[,number=N]; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  run->add_option("--dvd", options.dvds, "A DVD drive with this ISO image in it, or none; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  run->add_flag("--debug-exit", options.debug_exit,
                "Give the guest the port 0x501: a write of V ends the machine with the status 2V+1");
  run->callback([run, made, &status] {
    made->named = run->count("--name") > 0;
    status = run_machine(*made);
  });
}

void add_host(CLI::App& app, int& status) {
  const auto as_json = std::make_shared<bool>(false);
  auto* host = app.add_subcommand("host", "About this host")->require_subcommand(1);
  auto* information = host->add_subcommand("info", "What this host offers to virtual machines");
  information->add_flag("--json", *as_json, "As one JSON object");
  information->callback([as_json, &status] { status = show_host(*as_json); });
}

struct Commands {
  std::string_view name;  // of the one command, or none
  void (*add)(CLI::App& app, int& status);
};
constexpr std::array<Commands, 4> kCommands = {
    {{"run", add_run}, {"host", add_host}, {"disk", add_disk}, {"", add_machine_commands}}};

/// Only the command that is named, if it is: the options of all of them take longer to make than a machine's worker to
/// start.
void add_commands(CLI::App& app, std::string_view name, int& status) {
  const bool named = std::ranges::find(kCommands, name, &Commands::name) != kCommands.end();
  for (const auto& commands : kCommands) {
    if (!named || commands.name == name) commands.add(app, status);
  }
}

/// What is wrong, in the library's words, which leave out the name that stands where a command's should.
std::string describe(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* last = &app;
  while (!last->get_subcommands().empty()) last = last->get_subcommands().front();
  const auto unknown = last->remaining();
  if (last->get_require_subcommand_min() == 0 || unknown.empty()) return error.what();
  const char* kind = unknown.front().starts_with('-') ? "option" : "command";
  return fmt::format("there is no {} '{}'; --help lists them", kind, unknown.front());
}

int run(int count, char** values) {
  CLI::App app("Runs virtual machines on the Bulkhead hypervisor", "bulkhead");
  app.set_version_flag("--version", "bulkhead " BULKHEAD_VERSION);
  app.require_subcommand(1);
  int status = 0;
  add_commands(app, count > 1 ? values[1] : "", status);
  try {
    app.parse(count, values);
  } catch (const CLI::Success& asked_for_help) {
    return app.exit(asked_for_help);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "bulkhead: {}\n", describe(app, error));
    return worker::kUsageStatus;
  }
  return status;
}

}  // namespace
}  // namespace bulkhead::cli

int main(int count, char** values) {
  try {
    return bulkhead::cli::run(count, values);
  } catch (const std::exception& error) {  // no memory, most likely
    std::fprintf(stderr, "bulkhead: %s\n", error.what());
    return bulkhead::worker::exit_status({bulkhead::worker::EndingKind::Failed});
  }
}
