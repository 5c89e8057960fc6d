// SPDX-License-Identifier: Apache-2.0
//
// Every processor that the firmware names belongs to the hypervisor before the root runs. Each is started with INIT and SIPI, one
// after the other, and then waits for the root's own SIPI.
#include <new>

#include "hypervisor/boot/boot.hpp"
#include "hypervisor/boot/layout.h"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/processor/start.hpp"

extern "C" std::byte trampoline_start[], trampoline_end[];
extern "C" std::uint64_t boot_pml4[], boot_table_image[];
extern "C" std::byte trampoline_cr3[], trampoline_stack[], trampoline_target[], trampoline_argument[];

namespace bulkhead::hypervisor::boot {
namespace {

constexpr std::uint32_t kInit = 0x0000c500;  // level, assert
constexpr std::uint32_t kStartup = 0x00004600;

void set_word(std::byte* page, const std::byte* symbol, std::uint64_t value) {
  std::memcpy(page + (symbol - trampoline_start), &value, sizeof value);
}

void create_processor(std::uint32_t index, std::uint32_t apic_id) {
  // Stack first: it has to be aligned to its size.
  const Frame stack = take(2, 2);
  auto* processor = new (machine::frame_pointer(stack)) LogicalProcessor;
  processor->index = index;
  processor->address_space += index;
  processor->apic_id = apic_id;
  processor->host_save_area = take().address();
  processor->root_frames = take(2);
  processor->startup.start_waiting();
  processors::all[index] = processor;
}

void start(LogicalProcessor& processor, std::uint64_t page) {
  std::byte* code = machine::frame_pointer(Frame::at(page));
  set_word(code, trampoline_stack, reinterpret_cast<std::uint64_t>(processor.stack_top()));
  set_word(code, trampoline_argument, reinterpret_cast<std::uint64_t>(&processor));
  local_apic::send(processor.apic_id, kInit);
  wait_microseconds(10000);
  for (unsigned attempt = 0; attempt < 2 && !processor.ready.load(); ++attempt) {
    local_apic::send(processor.apic_id, kStartup | static_cast<std::uint32_t>(page / kPageSize));
    wait_microseconds(200);
  }
  for (unsigned waited = 0; !processor.ready.load(); ++waited) {
    if (waited > 20000) fail("a processor does not start");
    wait_microseconds(100);
  }
}

}  // namespace

void create_processors() {
  const std::uint32_t own = local_apic::id();
  create_processor(0, own);
  std::uint32_t count = 1;
  for (std::size_t index = 0; index < boot.acpi.processor_count; ++index) {
    if (boot.acpi.apic_ids[index] != own) create_processor(count++, boot.acpi.apic_ids[index]);
  }
  processors::count = count;
}

/// The first tables have the trampoline at its physical address; from now on they have the image where it is now.
std::uint64_t tables_for_trampoline() {
  constexpr std::uint64_t kPresentWritable = 3;
  const auto pages = static_cast<std::uint64_t>(resident_end - image_start) / kPageSize;
  for (std::uint64_t page = 0; page < pages; ++page)
    boot_table_image[page] = (boot.base + page).address() | kPresentWritable;
  return reinterpret_cast<std::uint64_t>(boot_pml4) - BULKHEAD_IMAGE_BASE + BULKHEAD_LOAD_BASE;
}

void start_processors(std::uint64_t page) {
  std::byte* code = machine::frame_pointer(Frame::at(page));
  std::memcpy(code, trampoline_start, static_cast<std::size_t>(trampoline_end - trampoline_start));
  set_word(code, trampoline_cr3, tables_for_trampoline());
  set_word(code, trampoline_target, reinterpret_cast<std::uint64_t>(&processors::enter));
  for (std::uint32_t index = 1; index < processors::count; ++index) start(*processors::all[index], page);
}

}  // namespace bulkhead::hypervisor::boot
