// SPDX-License-Identifier: Apache-2.0
//
// The shape of a child's hypercall, and one as it was issued.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hypervisor/hypercall/control_word.hpp"

namespace bulkhead::hypervisor {

/// What a child's call takes, in bytes. None of them gives anything but its status.
struct GuestCallShape {
  std::uint16_t code;
  bool rep;
  bool variable;  // a processor set's banks come behind the fixed part
  std::uint16_t input;
  std::uint16_t element;
};

struct GuestCall {
  /// All that any call looks at: a header, a processor set, and the first of its banks.
  static constexpr std::size_t kFront = 40;

  std::uint64_t control;
  std::uint64_t input[2];  // the address in the first, or a fast call's values
  const GuestCallShape& shape;

  /// Everything that can be wrong with the control word.
  hv_status check() const;
  std::size_t input_size() const;
};

}  // namespace bulkhead::hypervisor
