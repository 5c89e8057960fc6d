// SPDX-License-Identifier: Apache-2.0
//
// The control word of a hypercall and the table of the calls that there are: TLFS, "Hypercall Inputs". abi/hypercall.h has the picture.
#pragma once

#include <cstdint>

#include "abi/hypercall.h"

namespace bulkhead::hypervisor {

class ControlWord {
 public:
  explicit constexpr ControlWord(std::uint64_t word) : word_(word) {}

  constexpr std::uint16_t code() const { return static_cast<std::uint16_t>(word_); }
  constexpr bool fast() const { return word_ & HV_HYPERCALL_FAST; }
  constexpr unsigned variable_header() const { return word_ >> 17 & 0x3ff; }
  constexpr bool reserved_bits() const { return word_ & 0xf000f000'f8000000; }  // nested (31) is not offered either
  constexpr std::uint32_t rep_count() const { return word_ >> HV_HYPERCALL_REP_COUNT_SHIFT & HV_HYPERCALL_REP_MASK; }
  constexpr std::uint32_t rep_start() const { return word_ >> HV_HYPERCALL_REP_START_SHIFT & HV_HYPERCALL_REP_MASK; }

  constexpr std::uint64_t with_rep_start(std::uint32_t start) const {
    return (word_ & ~(HV_HYPERCALL_REP_MASK << HV_HYPERCALL_REP_START_SHIFT)) | std::uint64_t{start}
                                                                                    << HV_HYPERCALL_REP_START_SHIFT;
  }

 private:
  std::uint64_t word_;
};

/// What a call takes and gives, in bytes. A rep call has a list of input elements, of output elements, or neither after its header.
struct CallShape {
  std::uint16_t code;
  bool rep;
  std::uint16_t input;           // fixed part
  std::uint16_t input_element;   // of each repetition
  std::uint16_t output;          // of a simple call
  std::uint16_t output_element;  // of each repetition
  std::uint16_t variable = 0;    // variable header, at most; not of a rep call
};

/// The root's call with that code; null: there is none.
const CallShape* find_root_call(std::uint16_t code);

/// What can be wrong with the control word whatever the call's sizes, in the TLFS's order after the code.
constexpr hv_status check(const ControlWord& control, bool rep, bool variable) {
  if (control.reserved_bits() || (control.variable_header() && !variable)) return HV_STATUS_INVALID_HYPERCALL_INPUT;
  const bool valid = rep ? control.rep_start() < control.rep_count() : !control.rep_count() && !control.rep_start();
  return valid ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_HYPERCALL_INPUT;
}

/// Everything that can be wrong with the control word of one of the root's calls.
constexpr hv_status check(const ControlWord& control, const CallShape& shape) {
  if (const hv_status status = check(control, shape.rep, shape.variable != 0); status != HV_STATUS_SUCCESS)
    return status;
  if (8 * control.variable_header() > shape.variable) return HV_STATUS_INVALID_HYPERCALL_INPUT;
  // Two registers are all that a fast call has: 16 bytes of input, and no output.
  if (control.fast() && (shape.input + shape.variable + shape.input_element * control.rep_count() > 16 ||
                         shape.output || shape.output_element)) {
    return HV_STATUS_INVALID_HYPERCALL_INPUT;
  }
  return HV_STATUS_SUCCESS;
}

}  // namespace bulkhead::hypervisor
