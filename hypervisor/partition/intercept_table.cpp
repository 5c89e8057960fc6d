// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/partition/intercept_table.hpp"

namespace bulkhead::hypervisor {

hv_status InterceptTable::put(Ranges& ranges, std::uint32_t& count, Range range) {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (ranges[i].first != range.first || ranges[i].last != range.last) continue;
    if (range.access)
      ranges[i] = range;
    else
      ranges[i] = ranges[--count];
    return HV_STATUS_SUCCESS;
  }
  if (range.access == 0) return HV_STATUS_SUCCESS;
  if (count == kRanges) return HV_STATUS_INSUFFICIENT_MEMORY;
  ranges[count++] = range;
  return HV_STATUS_SUCCESS;
}

hv_status InterceptTable::install(std::uint32_t type, std::uint32_t access, std::uint64_t parameter) {
  constexpr std::uint32_t kAll = HV_INTERCEPT_ACCESS_READ | HV_INTERCEPT_ACCESS_WRITE | HV_INTERCEPT_ACCESS_EXECUTE;
  if (access & ~kAll) return HV_STATUS_INVALID_PARAMETER;
  const auto number = static_cast<std::uint32_t>(parameter);
  switch (type) {
    case HV_INTERCEPT_TYPE_IO_PORT:
      if (parameter > 0xffff) return HV_STATUS_INVALID_PARAMETER;
      return put(ports_, port_count_, {number, number, access});
    case HV_INTERCEPT_TYPE_IO_PORT_RANGE:
      if (parameter >> 32 || (number & 0xffff) > number >> 16) return HV_STATUS_INVALID_PARAMETER;
      return put(ports_, port_count_, {number & 0xffff, number >> 16, access});
    case HV_INTERCEPT_TYPE_MSR: all_msrs_ = access; return HV_STATUS_SUCCESS;
    case HV_INTERCEPT_TYPE_MSR_INDEX: return put(msrs_, msr_count_, {number, number, access});
    case HV_INTERCEPT_TYPE_CPUID: return put(cpuid_, cpuid_count_, {number, number, access});
    case HV_INTERCEPT_TYPE_EXCEPTION: {
      // NMI is no exception, and those above 31 are interrupts.
      if (parameter > 31 || parameter == 2) return HV_STATUS_INVALID_PARAMETER;
      const std::uint32_t bit = 1u << number;
      exceptions_ = access ? exceptions_ | bit : exceptions_ & ~bit;
      return HV_STATUS_SUCCESS;
    }
    case HV_INTERCEPT_TYPE_HYPERCALL: hypercalls_ = access != 0; return HV_STATUS_SUCCESS;
    case HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION: connections_ = access != 0; return HV_STATUS_SUCCESS;
    case HV_INTERCEPT_TYPE_APIC_EOI: apic_eoi_ = access != 0; return HV_STATUS_SUCCESS;
    default: return HV_STATUS_INVALID_PARAMETER;
  }
}

}  // namespace bulkhead::hypervisor
