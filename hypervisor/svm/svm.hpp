// SPDX-License-Identifier: Apache-2.0
//
// What all logical processors have in common: SVM's features and the permission maps.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::svm {

struct Features {
  std::uint64_t next_rip = 0;  // all ones: the processor tells the next RIP at an exit
  bool decode_assists = false;
  bool flush_by_asid = false;
  bool pause_filter = false;
  bool xsave = false;
  bool tsc_aux = false;
  bool branch_barrier = false;  // IBPB
  std::uint32_t last_asid = 0;
  std::uint64_t xcr0 = 0;  // what the hardware has and kExtendedStateSize holds
};
extern Features features;

/// Physical addresses of the maps for Intercept1::kInterceptPorts and kInterceptMsrs.
struct Permissions {
  std::uint64_t root_ports, root_msrs, child_ports, child_msrs;
};
extern Permissions permissions;

/// What is missing on this machine, or nullptr. Fills `features`.
const char* find_features();

}  // namespace bulkhead::hypervisor::svm
