// SPDX-License-Identifier: Apache-2.0
//
// Calls about a partition as a whole: TLFS, "Partition Management" and "Virtualization Host".
#include <algorithm>

#include "hypervisor/hypercall/root_call.hpp"
#include "hypervisor/hypervisor.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/memory/root_memory.hpp"
#include "hypervisor/partition/partition_table.hpp"
#include "hypervisor/vp/guest_interface.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

constinit StartSettings start_settings{};

constexpr std::uint64_t kCreationFlags = HV_PARTITION_CREATION_LAPIC_PRESENT | HV_PARTITION_CREATION_X2APIC_CAPABLE;

PartitionReference find(std::uint64_t id) { return partition_table().lock()->find(id); }

}  // namespace

void start(const StartSettings& settings) {
  start_settings = settings;
  root_memory().lock()->start(settings);
}

namespace root {

RootCallResult create_partition(const RootCall& call) {
  const auto input = call.input<hv_create_partition>();
  if (input.flags & ~kCreationFlags || input.isolation) return HV_STATUS_INVALID_PARAMETER;
  // Features that are not offered are disabled already; taking others away is done by CPUID results.
  const auto id = partition_table().lock()->create(input.flags);
  if (!id) return id.error();
  call.put(hv_partition_id{*id});
  return HV_STATUS_SUCCESS;
}

RootCallResult initialize_partition(const RootCall& call) {
  const PartitionReference partition = find(call.input<hv_partition_id>().partition_id);
  return partition ? partition->initialize() : HV_STATUS_INVALID_PARTITION_ID;
}

RootCallResult finalize_partition(const RootCall& call) {
  const PartitionReference partition = find(call.input<hv_partition_id>().partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  const std::optional<hv_status> status = partition->finalize();
  RootCallResult result(status.value_or(HV_STATUS_SUCCESS));
  result.again = !status;
  return result;
}

RootCallResult delete_partition(const RootCall& call) {
  return partition_table().lock()->remove(call.input<hv_partition_id>().partition_id);
}

RootCallResult get_next_child_partition(const RootCall& call) {
  const auto input = call.input<hv_get_next_child_partition>();
  if (input.parent_id != HV_PARTITION_ID_SELF) return HV_STATUS_INVALID_PARTITION_ID;
  call.put(hv_partition_id{partition_table().lock()->next(input.previous_child_id)});
  return HV_STATUS_SUCCESS;
}

RootCallResult get_partition_property(const RootCall& call) {
  hv_partition_property input{};
  std::memcpy(&input, call.header.data(), call.header.size());
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  const PartitionConfiguration& configuration = partition->configuration();
  std::uint64_t value = 0;
  switch (input.code) {
    case HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS: value = privilege_flags(configuration); break;
    case HV_PARTITION_PROPERTY_TIME_FREEZE: value = configuration.reference_time.frozen(); break;
    case HV_PARTITION_PROPERTY_REFERENCE_TIME: value = configuration.reference_time.at(machine::tsc()); break;
    case HV_PARTITION_PROPERTY_PROCESSORS_PER_SOCKET: value = configuration.processors_per_socket; break;
    case HV_PARTITION_PROPERTY_PHYSICAL_ADDRESS_WIDTH:
      value = std::min(machine::host_cpuid(0x80000008, 0).eax & 0xff, kGuestAddressBits);
      break;
    case HV_PARTITION_PROPERTY_PROCESSOR_CLOCK_FREQUENCY: value = machine::tsc_frequency(); break;
    default: return HV_STATUS_UNKNOWN_PROPERTY;
  }
  call.put(value);
  return HV_STATUS_SUCCESS;
}

RootCallResult set_partition_property(const RootCall& call) {
  const auto input = call.input<hv_partition_property>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  if (input.code == HV_PARTITION_PROPERTY_TIME_FREEZE) {
    return input.value > 1 ? HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE : partition->freeze_time(input.value != 0);
  }
  auto guarded = partition->lock();
  PartitionConfiguration* configuration = partition->configure();
  if (!configuration) return HV_STATUS_INVALID_PARTITION_STATE;
  switch (input.code) {
    case HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS:
      return input.value == privilege_flags(*configuration) ? HV_STATUS_SUCCESS : HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
    case HV_PARTITION_PROPERTY_REFERENCE_TIME:
      if (!configuration->reference_time.frozen()) return HV_STATUS_INVALID_PARTITION_STATE;
      configuration->reference_time.set(input.value);
      return HV_STATUS_SUCCESS;
    case HV_PARTITION_PROPERTY_PROCESSORS_PER_SOCKET:
      if (input.value == 0 || input.value > kMaximumVps) return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
      configuration->processors_per_socket = static_cast<std::uint32_t>(input.value);
      return HV_STATUS_SUCCESS;
    case HV_PARTITION_PROPERTY_PHYSICAL_ADDRESS_WIDTH:
    case HV_PARTITION_PROPERTY_PROCESSOR_CLOCK_FREQUENCY: return HV_STATUS_OPERATION_DENIED;
    default: return HV_STATUS_UNKNOWN_PROPERTY;
  }
}

RootCallResult install_intercept(const RootCall& call) {
  const auto input = call.input<hv_install_intercept>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  auto guarded = partition->lock();
  PartitionConfiguration* configuration = partition->configure();
  if (!configuration) return HV_STATUS_INVALID_PARTITION_STATE;
  return configuration->intercepts.install(input.intercept_type, input.access_mask, input.intercept_parameter);
}

RootCallResult register_intercept_result(const RootCall& call) {
  const auto input = call.input<hv_register_cpuid_result>();
  if (input.intercept_type != HV_INTERCEPT_TYPE_CPUID) return HV_STATUS_INVALID_PARAMETER;
  if (input.vp_index >= kMaximumVps && input.vp_index != HV_VP_INDEX_ANY) return HV_STATUS_INVALID_VP_INDEX;
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  auto guarded = partition->lock();
  PartitionConfiguration* configuration = partition->configure();
  if (!configuration || guarded->state != PartitionState::Active) return HV_STATUS_INVALID_PARTITION_STATE;
  return configuration->cpuid_results.add({.leaf = input.leaf,
                                           .subleaf = input.subleaf,
                                           .vp_index = input.vp_index,
                                           .every_subleaf = input.subleaf_specific == 0,
                                           .value = {input.eax, input.ebx, input.ecx, input.edx},
                                           .mask = {input.eax_mask, input.ebx_mask, input.ecx_mask, input.edx_mask}});
}

RootCallResult information(const RootCall& call) {
  hv_bulkhead_information output{};
  output.abi_level = HV_BULKHEAD_ABI_LEVEL;
  output.logical_processors = machine::lp_count();
  output.maximum_vps = kMaximumVps;
  output.image_bytes = start_settings.image_bytes;
  output.memory_bytes = start_settings.memory_bytes;
  output.tsc_frequency = machine::tsc_frequency();
  {
    auto table = partition_table().lock();
    output.partitions = table->count();
    for (std::uint64_t id = table->next(0); id; id = table->next(id)) {
      const PartitionReference partition = table->find(id);
      auto guarded = partition->lock();
      output.deposited_pages += guarded->pool.available() + guarded->pool.used();
      for (const VirtualProcessor* const vp : guarded->vps) {
        if (!vp) continue;
        output.exits += vp->exits();
        output.interrupts += vp->interrupts();
      }
    }
  }
  {
    auto memory = root_memory().lock();
    output.root_pool_pages_available = memory->pool().available();
    output.root_pool_pages_in_use = memory->pool().used();
  }
  call.put(output);
  return HV_STATUS_SUCCESS;
}

}  // namespace root
}  // namespace bulkhead::hypervisor
