// SPDX-License-Identifier: Apache-2.0
//
// Text as it travels to guests, UTF-16 that ends with a zero, and as the host has it, UTF-8.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "error/error.hpp"

namespace bulkhead::vsp::integration {

/// Errors: not UTF-8, a zero in it, or more than `maximum` units. `what` names the text in the error.
Result<std::u16string> to_utf16(std::string_view text, std::size_t maximum, std::string_view what);

/// What a guest has sent: the units up to the first zero, or all of them. What is not UTF-16 is left out.
std::string to_utf8(std::span<const std::uint8_t> utf16);

/// Writes text and a zero into a field of a message, which is large enough. Returns the bytes, the zero's included.
std::uint32_t put_text(std::span<std::uint8_t> field, std::u16string_view text);

}  // namespace bulkhead::vsp::integration
