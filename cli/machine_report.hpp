// SPDX-License-Identifier: Apache-2.0
//
// What a machine says of itself, for people.
#pragma once

#include <string>

#include "cli/control_client.hpp"

namespace bulkhead::cli {

/// The lines of `bulkhead status`.
std::string status_text(const Json& status);

/// A tree of values, two blanks a level: `bulkhead inspect`.
std::string tree_text(const Json& tree);

}  // namespace bulkhead::cli
