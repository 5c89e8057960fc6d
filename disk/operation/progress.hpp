// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace bulkhead::disk {

/// How far a long operation is, in bytes; called often. False stops it at the next safe point: what it has done stays,
/// the disk is readable, and running it again finishes it.
using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

}  // namespace bulkhead::disk
