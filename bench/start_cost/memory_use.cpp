// SPDX-License-Identifier: Apache-2.0
#include "bench/start_cost/memory_use.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>

namespace bulkhead::bench {
namespace {

struct Process {
  pid_t parent = 0;
  std::string name;
};

/// Of /proc/PID/stat, whose name is in parentheses and may hold anything.
std::optional<Process> read_process(const std::filesystem::path& folder) {
  std::ifstream file(folder / "stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  const auto open = line.find('('), close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 > line.size()) return std::nullopt;
  Process process{.name = line.substr(open + 1, close - open - 1)};
  std::from_chars(line.data() + close + 4, line.data() + line.size(), process.parent);
  return process;
}

std::map<pid_t, Process> processes() {
  std::map<pid_t, Process> all;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    pid_t id = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), id).ec != std::errc()) continue;
    if (auto process = read_process(entry.path())) all[id] = *process;
  }
  return all;
}

bool descends(const std::map<pid_t, Process>& all, pid_t id, pid_t ancestor) {
  while (id != ancestor) {
    const auto found = all.find(id);
    if (found == all.end() || found->second.parent == 0) return false;
    id = found->second.parent;
  }
  return true;
}

std::uint64_t number_behind(const std::string& line, std::string_view name) {
  std::uint64_t number = 0;
  const auto digits = line.find_first_of("0123456789", name.size());
  if (digits != std::string::npos) std::from_chars(line.data() + digits, line.data() + line.size(), number);
  return number;
}

std::uint64_t without_guest_memory(pid_t id, std::uint64_t guest_kib) {
  std::ifstream file("/proc/" + std::to_string(id) + "/smaps");
  std::uint64_t total = 0, size = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Size:")) size = number_behind(line, "Size:");
    if (line.starts_with("Pss:") && size < guest_kib) total += number_behind(line, "Pss:");
  }
  return total;
}

}  // namespace

std::map<std::string, std::uint64_t> memory_use(pid_t ancestor, std::uint64_t guest_kib) {
  std::map<std::string, std::uint64_t> use;
  const auto all = processes();
  for (const auto& [id, process] : all) {
    if (descends(all, id, ancestor)) use[process.name] += without_guest_memory(id, guest_kib);
  }
  return use;
}

}  // namespace bulkhead::bench
