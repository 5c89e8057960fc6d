// SPDX-License-Identifier: Apache-2.0
#include "interrupt.hpp"

#include "guest.hpp"
#include "instructions.hpp"

extern "C" {
extern const char interrupt_entries[];
extern const char attempt_abandon[];
extern std::uint64_t descriptor_table[];
std::uint64_t attempt_call(void (*function)(void*), void* argument, std::uint64_t* saved_stack);
}

namespace bulkhead::guest {
namespace {

struct Gate {
  std::uint16_t offset_low, selector;
  std::uint8_t stack, type;
  std::uint16_t offset_middle;
  std::uint32_t offset_high, reserved;
};
static_assert(sizeof(Gate) == 16);

struct [[gnu::packed]] TaskState {
  std::uint32_t reserved0;
  std::uint64_t stack[3];
  std::uint64_t reserved1;
  std::uint64_t interrupt_stack[7];
  std::uint64_t reserved2;
  std::uint16_t reserved3, io_map;
};
static_assert(sizeof(TaskState) == 104);

constexpr std::size_t kTaskDescriptor = 9;
alignas(16) Gate gates[256];
alignas(16) TaskState task_state;
alignas(16) char double_fault_stack[8192];
alignas(16) char privileged_stack[8192];
InterruptHandler handlers[256];

std::uint64_t attempt_stack;  // 0: none is under way
Fault attempt_fault;

void make_tables() {
  for (unsigned vector = 0; vector < 256; ++vector) {
    const auto entry = reinterpret_cast<std::uint64_t>(interrupt_entries) + vector * 16;
    gates[vector] = {static_cast<std::uint16_t>(entry),
                     8,
                     static_cast<std::uint8_t>(vector == kDoubleFault ? 1 : 0),
                     0x8e,
                     static_cast<std::uint16_t>(entry >> 16),
                     static_cast<std::uint32_t>(entry >> 32),
                     0};
  }
  gates[kBreakpoint].type = 0xee;  // also from CPL 3
  task_state.interrupt_stack[0] = reinterpret_cast<std::uint64_t>(double_fault_stack) + sizeof(double_fault_stack);
  task_state.stack[0] = reinterpret_cast<std::uint64_t>(privileged_stack) + sizeof(privileged_stack);
  task_state.io_map = sizeof(task_state);
  const auto base = reinterpret_cast<std::uint64_t>(&task_state);
  descriptor_table[kTaskDescriptor] =
      (sizeof(task_state) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
}

}  // namespace

void set_interrupt_handler(std::uint8_t vector, InterruptHandler handler) { handlers[vector] = handler; }

void load_interrupt_table() {
  // The boot processor makes it and alone has the task state.
  if (!gates[0].type) {
    make_tables();
    asm volatile("ltr %0" ::"r"(static_cast<std::uint16_t>(kTaskDescriptor * 8)));
  }
  load_idt({sizeof(gates) - 1, reinterpret_cast<std::uint64_t>(gates)});
}

void mask_pic() {
  out8(0x21, 0xff);
  out8(0xa1, 0xff);
}

Fault attempt(void (*function)(void*), void* argument) {
  const std::uint64_t outer = attempt_stack;
  attempt_fault.vector = kNoException;
  if (!attempt_call(function, argument, &attempt_stack)) attempt_fault.vector = kNoException;
  attempt_stack = outer;
  return attempt_fault;
}

extern "C" void interrupt_dispatch(InterruptFrame* frame) {
  const auto vector = static_cast<std::uint8_t>(frame->vector);
  if (handlers[vector]) return handlers[vector](*frame);
  if (vector < 32 && attempt_stack) {
    attempt_fault = {vector, static_cast<std::uint32_t>(frame->error_code), read_cr2(), *frame};
    frame->rip = reinterpret_cast<std::uint64_t>(attempt_abandon);
    frame->cs = 8;
    frame->ss = 0x10;
    frame->rflags = 2;
    frame->rsp = attempt_stack;
    return;
  }
  print("unexpected interrupt ");
  print_number(vector);
  print(" error ");
  print_hex(frame->error_code);
  print(" at ");
  print_hex(frame->rip);
  print(" CR2 ");
  print_hex(read_cr2());
  print("\n");
  fail("the guest", "an interrupt or exception that nobody waits for", vector, 0);
  finish();
}

}  // namespace bulkhead::guest
