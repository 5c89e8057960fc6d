// SPDX-License-Identifier: Apache-2.0
//
// Which integration services a machine is offered, as users name them: "all", "none", or some of
//
//   heartbeat, shutdown, time-synchronization, key-value-exchange, volume-snapshot, file-copy
#pragma once

#include <string>
#include <string_view>

#include "error/error.hpp"

namespace bulkhead::worker {

struct IntegrationChoice {
  bool heartbeat = true;
  bool shutdown = true;
  bool time_synchronization = true;
  bool key_value_exchange = true;
  bool volume_snapshot = true;
  bool file_copy = true;

  bool operator==(const IntegrationChoice&) const = default;
};

/// Names divided by commas, or "all" or "none". Error: a name that is none.
Result<IntegrationChoice> parse_integration_choice(std::string_view text);
/// What is parsed into the same.
std::string to_text(const IntegrationChoice& choice);

}  // namespace bulkhead::worker
