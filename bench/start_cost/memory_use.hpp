// SPDX-License-Identifier: Apache-2.0
//
// How much of the machine's memory a command's processes take beside their guest's memory: proportional set sizes (PSS),
// in which a page that n processes share counts 1/n in each.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

namespace bulkhead::bench {

/// Of the processes that descend from `ancestor` and itself: kibibytes by process name. Mappings of `guest_kib` and more
/// are guest memory and do not count.
std::map<std::string, std::uint64_t> memory_use(pid_t ancestor, std::uint64_t guest_kib);

}  // namespace bulkhead::bench
