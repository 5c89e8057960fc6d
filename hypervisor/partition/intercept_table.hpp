// SPDX-License-Identifier: Apache-2.0
//
// What a parent wants to be told of: TLFS, "HvCallInstallIntercept". A few entries of each kind; port intercepts are ranges, since
// machines have their devices' ports in few of them and usually intercept all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "abi/hypercall.h"

namespace bulkhead::hypervisor {

class InterceptTable {
 public:
  static constexpr std::size_t kRanges = 32;

  /// Adds, changes or (access 0) removes what `type`, any number of hv_intercept_type, names. INSUFFICIENT_MEMORY when the room for the kind is full; INVALID_PARAMETER.
  hv_status install(std::uint32_t type, std::uint32_t access, std::uint64_t parameter);

  bool wants_port(std::uint16_t port, std::uint32_t access) const {
    for (std::size_t i = 0; i < port_count_; ++i) {
      if (port >= ports_[i].first && port <= ports_[i].last && (ports_[i].access & access)) return true;
    }
    return false;
  }
  bool wants_msr(std::uint32_t msr, std::uint32_t access) const {
    if (all_msrs_ & access) return true;
    for (std::size_t i = 0; i < msr_count_; ++i) {
      if (msrs_[i].first == msr) return msrs_[i].access & access;
    }
    return false;
  }
  bool wants_cpuid(std::uint32_t leaf) const {
    for (std::size_t i = 0; i < cpuid_count_; ++i) {
      if (cpuid_[i].first == leaf) return true;
    }
    return false;
  }
  std::uint32_t exceptions() const { return exceptions_; }
  bool wants_hypercalls() const { return hypercalls_; }
  bool wants_connections() const { return connections_; }
  bool wants_apic_eoi() const { return apic_eoi_; }

 private:
  struct Range {
    std::uint32_t first;
    std::uint32_t last;
    std::uint32_t access;
  };
  using Ranges = std::array<Range, kRanges>;
  static hv_status put(Ranges& ranges, std::uint32_t& count, Range range);

  Ranges ports_{};
  std::array<Range, kRanges> msrs_{};
  std::array<Range, kRanges> cpuid_{};
  std::uint32_t port_count_ = 0;
  std::uint32_t msr_count_ = 0;
  std::uint32_t cpuid_count_ = 0;
  std::uint32_t all_msrs_ = 0;
  std::uint32_t exceptions_ = 0;
  bool hypercalls_ = false;
  bool connections_ = false;
  bool apic_eoi_ = false;
};

}  // namespace bulkhead::hypervisor
