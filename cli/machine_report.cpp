// SPDX-License-Identifier: Apache-2.0
#include "cli/machine_report.hpp"

#include <fmt/format.h>

namespace bulkhead::cli {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

std::string value_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void add_line(std::string& text, std::string_view name, std::string_view value) {
  text += fmt::format("{:<12} {}\n", name, value);
}

/// A line if the object has the field.
void add_field(std::string& text, const Json& object, const char* field, std::string_view name) {
  if (object.contains(field)) add_line(text, name, value_text(object[field]));
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::uint64_t>(seconds);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string mebibytes(const Json& object, const char* field) {
  return fmt::format("{:.0f} MiB", object.value(field, 0.0) / kMiB);
}

void add_guest(std::string& text, const Json& guest) {
  add_field(text, guest, "hostName", "host name");
  add_field(text, guest, "osName", "system");
  add_field(text, guest, "kernel", "kernel");
  if (!guest.contains("addresses")) return;
  std::string addresses;
  for (const auto& address : guest["addresses"]) addresses += (addresses.empty() ? "" : ", ") + value_text(address);
  add_line(text, "addresses", addresses);
}

void add_memory(std::string& text, const Json& memory) {
  add_line(text, "memory", mebibytes(memory, "assigned"));
  if (!memory.value("dynamic", false)) return;
  add_line(text, "  limits",
           fmt::format("{} to {}, {} at the start, buffer {} %, weight {}", mebibytes(memory, "minimum"),
                       mebibytes(memory, "maximum"), mebibytes(memory, "startup"), memory.value("buffer", 0),
                       memory.value("weight", 0)));
  if (memory.contains("demand")) add_line(text, "  demand", mebibytes(memory, "demand"));
  add_field(text, memory, "status", "  balloon");
  if (memory.value("refused", 0) > 0) add_field(text, memory, "refused", "  refused");
}

/// Of the services that the guest has made trouble with, what trouble.
void add_faults(std::string& text, const Json& services) {
  for (const auto& [name, service] : services.items()) {
    std::string faults;
    for (const char* kind : {"unanswered", "unexpected", "malformed"}) {
      if (const auto count = service.value(kind, 0); count > 0) {
        faults += fmt::format("{}{} {}", faults.empty() ? "" : ", ", count, kind);
      }
    }
    if (!faults.empty()) add_line(text, "faults", fmt::format("{}: {}", name, faults));
  }
}

void add_tree(std::string& text, const Json& tree, unsigned depth) {
  for (const auto& [name, value] : tree.items()) {
    text += fmt::format("{:{}}{}", "", 2 * depth, name);
    if (value.is_object()) {
      text += "\n";
      add_tree(text, value, depth + 1);
    } else {
      text += fmt::format(": {}\n", value_text(value));
    }
  }
}

}  // namespace

std::string status_text(const Json& status) {
  std::string text;
  add_field(text, status, "name", "name");
  add_field(text, status, "state", "state");
  add_field(text, status, "engine", "engine");
  add_field(text, status, "vps", "processors");
  add_line(text, "uptime", duration_text(status.value("uptime", 0.0)));
  add_field(text, status, "heartbeat", "heartbeat");
  if (status.contains("guest")) add_guest(text, status["guest"]);
  if (status.contains("memory")) add_memory(text, status["memory"]);
  if (status.contains("services")) add_faults(text, status["services"]);
  return text;
}

std::string tree_text(const Json& tree) {
  std::string text;
  add_tree(text, tree, 0);
  return text;
}

}  // namespace bulkhead::cli
