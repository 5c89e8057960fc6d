// SPDX-License-Identifier: Apache-2.0
#include "worker/command_line.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <charconv>
#include <climits>
#include <functional>
#include <set>
#include <string_view>

namespace bulkhead::worker {
namespace {

template <typename Number>
Result<Number> parse_number(std::string_view option, std::string_view text, Number maximum) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > maximum) {
    return fail(fmt::format("{} '{}' is not a number from 0 to {}", option, text, maximum));
  }
  return value;
}

template <typename Number, typename Field>
Result<> take_number(std::string_view option, std::string_view text, Number maximum, Field& field) {
  auto value = parse_number<Number>(option, text, maximum);
  if (!value) return std::unexpected(value.error());
  field = *value;
  return {};
}

Result<> take_choice(std::string_view option, std::string_view text, std::initializer_list<std::string_view> choices) {
  if (std::ranges::find(choices, text) != choices.end()) return {};
  return fail(fmt::format("{} '{}' is none of {}", option, text, fmt::join(choices, ", ")));
}

/// Sets what `option` with `value` means. Flags take no value; `is_flag` tells which they are.
bool is_flag(std::string_view option) {
  return option == "--debug-exit" || option == "--vmbus" || option == "--no-vmbus";
}

/// The settings of dynamic memory, which any of its options asks for.
DynamicMemorySettings& dynamic_memory(CommandLine& line) {
  if (!line.dynamic_memory) line.dynamic_memory.emplace();
  return *line.dynamic_memory;
}

Result<> take_vmbus(CommandLine& line, bool wanted) {
  if (line.vmbus) return fail("--vmbus and --no-vmbus contradict each other");
  line.vmbus = wanted;
  return {};
}

Result<> take_integration(CommandLine& line, std::string_view value) {
  auto choice = parse_integration_choice(value);
  if (!choice) return std::unexpected(choice.error().within("--integration"));
  line.integration = *choice;
  return {};
}

Result<> apply_memory(CommandLine& line, std::string_view option, std::string_view value) {
  auto& memory = dynamic_memory(line);
  if (option == "--memory-minimum") return take_number<std::uint64_t>(option, value, UINT64_MAX, memory.minimum);
  if (option == "--memory-maximum") return take_number<std::uint64_t>(option, value, UINT64_MAX, memory.maximum);
  if (option == "--memory-buffer") return take_number<std::uint32_t>(option, value, 2000, memory.buffer_percent);
  if (option == "--memory-weight") return take_number<std::uint32_t>(option, value, 10000, memory.weight);
  return fail(fmt::format("unknown option '{}'", option));
}

Result<> apply(CommandLine& line, std::string_view option, std::string_view value) {
  if (option == "--name") return line.name = value, Result<>();
  if (option == "--engine") {
    line.engine = value;
    return take_choice(option, value, {"native", "kvm", "auto"});
  }
  if (option == "--memory") return take_number<std::uint64_t>(option, value, UINT64_MAX, line.memory_size);
  if (option == "--vps") return take_number<std::uint32_t>(option, value, UINT32_MAX, line.vp_count);
  if (option == "--kernel-fd") return take_number<int>(option, value, INT_MAX, line.kernel_fd);
  if (option == "--initrd-fd") return take_number<int>(option, value, INT_MAX, line.initrd_fd);
  if (option == "--bios-fd") return take_number<int>(option, value, INT_MAX, line.bios_fd);
  if (option == "--boot-rom-fd") return take_number<int>(option, value, INT_MAX, line.boot_rom_fd);
  if (option == "--cmdline") return line.kernel_arguments = value, Result<>();
  if (option == "--com1-fd") return take_number<int>(option, value, INT_MAX, line.com1_fd);
  if (option == "--com2-fd") return take_number<int>(option, value, INT_MAX, line.com2_fd);
  if (option == "--report-fd") return take_number<int>(option, value, INT_MAX, line.report_fd);
  if (option == "--debug-exit") return line.debug_exit = true, Result<>();
  if (option == "--vmbus" || option == "--no-vmbus") return take_vmbus(line, option == "--vmbus");
  if (option == "--integration") return take_integration(line, value);
  if (option == "--control-fd") return take_number<int>(option, value, INT_MAX, line.control_fd);
  if (option.starts_with("--memory-")) return apply_memory(line, option, value);
  if (option == "--disk") {
    auto disk = parse_disk_option(value);
    if (!disk) return std::unexpected(disk.error().within(fmt::format("--disk '{}'", value)));
    line.disks.push_back(std::move(*disk));
    return {};
  }
  if (option == "--on-reset") {
    line.restart_on_reset = value == "restart";
    return take_choice(option, value, {"exit", "restart"});
  }
  return fail(fmt::format("unknown option '{}'", option));
}

}  // namespace

std::vector<std::string> to_arguments(const CommandLine& line) {
  std::vector<std::string> arguments = {
      "--name",      line.name,
      "--engine",    line.engine,
      "--memory",    std::to_string(line.memory_size),
      "--vps",       std::to_string(line.vp_count),
      "--kernel-fd", std::to_string(line.kernel_fd),
      "--cmdline",   line.kernel_arguments,
      "--on-reset",  line.restart_on_reset ? "restart" : "exit",
  };
  const auto add_descriptor = [&](const char* option, const std::optional<int>& number) {
    if (number) arguments.insert(arguments.end(), {option, std::to_string(*number)});
  };
  add_descriptor("--initrd-fd", line.initrd_fd);
  add_descriptor("--bios-fd", line.bios_fd);
  add_descriptor("--boot-rom-fd", line.boot_rom_fd);
  add_descriptor("--com1-fd", line.com1_fd);
  add_descriptor("--com2-fd", line.com2_fd);
  add_descriptor("--report-fd", line.report_fd);
  add_descriptor("--control-fd", line.control_fd);
  if (line.debug_exit) arguments.push_back("--debug-exit");
  if (line.vmbus) arguments.push_back(*line.vmbus ? "--vmbus" : "--no-vmbus");
  if (line.integration != IntegrationChoice{}) {
    arguments.insert(arguments.end(), {"--integration", to_text(line.integration)});
  }
  if (const auto& memory = line.dynamic_memory) {
    arguments.insert(
        arguments.end(),
        {"--memory-minimum", std::to_string(memory->minimum), "--memory-maximum", std::to_string(memory->maximum),
         "--memory-buffer", std::to_string(memory->buffer_percent), "--memory-weight", std::to_string(memory->weight)});
  }
  for (const auto& disk : line.disks) arguments.insert(arguments.end(), {"--disk", to_text(disk)});
  return arguments;
}

Result<CommandLine> parse(std::span<const std::string> arguments) {
  CommandLine line;
  std::set<std::string, std::less<>> seen;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& option = arguments[i];
    if (!seen.insert(option).second && option != "--disk") return fail(fmt::format("{} is given twice", option));
    std::string_view value;
    if (!is_flag(option) && option.starts_with("--")) {
      if (++i == arguments.size()) return fail(fmt::format("{} needs a value", option));
      value = arguments[i];
    }
    if (auto applied = apply(line, option, value); !applied) return std::unexpected(applied.error());
  }
  if (line.memory_size == 0) return fail("--memory is missing");
  if (line.kernel_fd < 0) return fail("--kernel-fd is missing");
  if (line.bios_fd.has_value() != line.boot_rom_fd.has_value()) return fail("--bios-fd and --boot-rom-fd go together");
  if (auto& memory = line.dynamic_memory) {
    // What is not said is what the machine starts with.
    if (memory->minimum == 0) memory->minimum = line.memory_size;
    if (memory->maximum == 0) memory->maximum = line.memory_size;
  }
  return line;
}

}  // namespace bulkhead::worker
