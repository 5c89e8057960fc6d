// SPDX-License-Identifier: Apache-2.0
//
// Further processors. They are started by INIT and SIPI to everybody else and then wait for work.
#pragma once

#include <cstdint>

namespace bulkhead::guest {

inline constexpr std::uint32_t kMaximumProcessors = 8;

/// Starts those that there are. How many processors run in all.
std::uint32_t start_processors();

/// `number` is from 1 to one less than start_processors returned; in the order in which they came up. The processor calls
/// the function in an idle loop, with interrupts disabled. It must have ended the work before (is_idle).
void start_work(std::uint32_t number, void (*work)());
bool is_idle(std::uint32_t number);
/// Of a processor that has started.
std::uint32_t apic_id_of(std::uint32_t number);
/// Where start_processors put the code of further processors; a SIPI with this vector starts one more time.
inline constexpr std::uint64_t kStartPage = 0x10000;

}  // namespace bulkhead::guest
