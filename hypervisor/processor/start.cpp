// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/start.hpp"

#include "hypervisor/machine.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/root/root_partition.hpp"

namespace bulkhead::hypervisor::processors {

Common common;

namespace {

struct Leaving {
  LogicalProcessor* processor;
  const std::byte* first;
  const std::byte* end;
};
Leaving leaving;

[[noreturn]] void run_on_own_stack() {
  PageTable<HostFormat> table(common.host_table);
  const std::uint64_t end = reinterpret_cast<std::uint64_t>(leaving.end) / kPageSize;
  for (std::uint64_t page = reinterpret_cast<std::uint64_t>(leaving.first) / kPageSize; page < end; ++page) {
    if (!table.unmap(page, PageSize::k4KiB)) machine::panic("the boot code is not where it was");
  }
  privileged::write_cr3(common.host_table.address());
  root::run(*leaving.processor);
}

}  // namespace

void prepare(LogicalProcessor& processor) {
  initialize_current();
  processor.root = create_root_hardware(processor, {common.root_table, 0});
  processor.logical_destination =
      local_apic::is_x2apic() ? 0 : local_apic::read(local_apic::Register::LogicalDestination);
  processor.destination_format =
      local_apic::is_x2apic() ? 0 : local_apic::read(local_apic::Register::DestinationFormat);
}

void enter(LogicalProcessor& processor) {
  privileged::write_cr3(common.host_table.address());
  prepare(processor);
  processor.ready.store(true);
  root::run(processor);
}

void leave_boot(LogicalProcessor& processor, const std::byte* first, const std::byte* end) {
  leaving = {&processor, first, end};
  asm volatile("mov %0, %%rsp; xor %%ebp, %%ebp; push $0; jmp *%1"
               :
               : "r"(processor.stack_top()), "r"(&run_on_own_stack)
               : "memory");
  __builtin_unreachable();
}

}  // namespace bulkhead::hypervisor::processors
