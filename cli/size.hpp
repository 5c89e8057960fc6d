// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "error/error.hpp"

namespace bulkhead::cli {

/// Bytes from "512M", "2G" or "1048576": a whole number and, if wanted, one of K, M, G, T (powers of 1024), in either
/// case and with "B" or "iB" after it or not. Errors: anything else, zero, more than 64 bits hold.
Result<std::uint64_t> parse_size(std::string_view text);

}  // namespace bulkhead::cli
