// SPDX-License-Identifier: Apache-2.0
#include "worker/integration_choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bulkhead::worker {
namespace {

struct NamedService {
  std::string_view name;
  bool IntegrationChoice::* chosen;
};
constexpr std::array<NamedService, 6> kServices = {{
    {"heartbeat", &IntegrationChoice::heartbeat},
    {"shutdown", &IntegrationChoice::shutdown},
    {"time-synchronization", &IntegrationChoice::time_synchronization},
    {"key-value-exchange", &IntegrationChoice::key_value_exchange},
    {"volume-snapshot", &IntegrationChoice::volume_snapshot},
    {"file-copy", &IntegrationChoice::file_copy},
}};

constexpr IntegrationChoice kNone{false, false, false, false, false, false};

}  // namespace

Result<IntegrationChoice> parse_integration_choice(std::string_view text) {
  if (text == "all") return IntegrationChoice{};
  IntegrationChoice choice = kNone;
  if (text == "none") return choice;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    const std::string_view name = text.substr(0, comma);
    const auto service = std::ranges::find(kServices, name, &NamedService::name);
    if (service == kServices.end()) {
      return fail(fmt::format(
          "'{}' is no integration service; there are heartbeat, shutdown, time-synchronization, key-value-exchange, "
          "volume-snapshot and file-copy",
          name));
    }
    choice.*service->chosen = true;
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);
  }
  return choice;
}

std::string to_text(const IntegrationChoice& choice) {
  if (choice == IntegrationChoice{}) return "all";
  std::string text;
  for (const auto& service : kServices) {
    if (choice.*service.chosen) text += (text.empty() ? "" : ",") + std::string(service.name);
  }
  return text.empty() ? "none" : text;
}

}  // namespace bulkhead::worker
