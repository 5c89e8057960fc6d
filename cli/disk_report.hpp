// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/operation/check.hpp"
#include "disk/operation/info.hpp"

namespace bulkhead::cli {

enum class Style { Text, Json };

/// Print to standard output.
void print_chain(const disk::ChainInfo& chain, Style style);
void print_check(const disk::CheckReport& report, Style style);

}  // namespace bulkhead::cli
