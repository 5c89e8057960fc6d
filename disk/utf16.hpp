// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::disk {

/// The paths in image files are UTF-16, in VHDX little-endian, in VHD either. What is malformed becomes U+FFFD; a zero
/// ends the text.
std::string utf8_from_utf16(std::span<const std::byte> utf16, std::endian order);
std::vector<std::byte> utf16_from_utf8(std::string_view utf8, std::endian order);

}  // namespace bulkhead::disk
