// SPDX-License-Identifier: Apache-2.0
//
// Root to child and back: what is too dear to exchange at every exit. The root's own share of it stays in the root's VMCB
// and XSAVE area of this logical processor.
#include "hypervisor/machine.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/svm/svm.hpp"
#include "hypervisor/svm/svm_vp.hpp"

namespace bulkhead::hypervisor::svm {
namespace {

constexpr std::uint32_t kMsrPredictionCommand = 0x49;
constexpr std::uint32_t kMsrTscAux = 0xc0000103;

void vmsave(std::uint64_t vmcb) { asm volatile("vmsave %0" : : "a"(vmcb) : "memory"); }
void vmload(std::uint64_t vmcb) { asm volatile("vmload %0" : : "a"(vmcb) : "memory"); }

void save_extended(std::byte* area) {
  if (features.xsave) {
    asm volatile("xsave64 %0" : "+m"(*area) : "a"(~0u), "d"(~0u) : "memory");
  } else {
    asm volatile("fxsave64 %0" : "+m"(*area) : : "memory");
  }
}
void load_extended(const std::byte* area) {
  if (features.xsave) {
    asm volatile("xrstor64 %0" : : "m"(*area), "a"(~0u), "d"(~0u) : "memory");
  } else {
    asm volatile("fxrstor64 %0" : : "m"(*area) : "memory");
  }
}

std::uint64_t read_debug(unsigned number) {
  std::uint64_t value = 0;
  switch (number) {
    case 0: asm volatile("mov %%dr0, %0" : "=r"(value)); break;
    case 1: asm volatile("mov %%dr1, %0" : "=r"(value)); break;
    case 2: asm volatile("mov %%dr2, %0" : "=r"(value)); break;
    default: asm volatile("mov %%dr3, %0" : "=r"(value)); break;
  }
  return value;
}
void write_debug(unsigned number, std::uint64_t value) {
  switch (number) {
    case 0: asm volatile("mov %0, %%dr0" : : "r"(value)); break;
    case 1: asm volatile("mov %0, %%dr1" : : "r"(value)); break;
    case 2: asm volatile("mov %0, %%dr2" : : "r"(value)); break;
    default: asm volatile("mov %0, %%dr3" : : "r"(value)); break;
  }
}

}  // namespace

void SvmVp::load() {
  LogicalProcessor& processor = LogicalProcessor::current();
  std::byte* root_state = static_cast<SvmVp*>(processor.root)->extended_state_;
  vmsave(processor.root_vmcb);
  if (features.xsave) {
    // All components are exchanged, also those that one side has not enabled: nothing of one is left for the other.
    root_xcr0_ = privileged::read_xcr0();
    if (root_xcr0_ != features.xcr0) privileged::write_xcr0(features.xcr0);
  }
  save_extended(root_state);
  load_extended(extended_state_);
  if (features.xsave && xcr0_ != features.xcr0) privileged::write_xcr0(xcr0_);
  if (features.tsc_aux) {
    root_tsc_aux_ = privileged::read_msr(kMsrTscAux);
    privileged::write_msr(kMsrTscAux, tsc_aux_);
  }
  if (features.branch_barrier) privileged::write_msr(kMsrPredictionCommand, 1);
  vmload(vmcb_address_);
  loaded_ = true;
  processor.running = this;
  if (vmcb_.dr7 & 0xff) load_debug_registers();
  // So that a physical interrupt ends the guest: with virtual masking it is the host's flag that counts.
  privileged::enable_interrupts();
}

void SvmVp::unload() {
  LogicalProcessor& processor = LogicalProcessor::current();
  privileged::disable_interrupts();
  vmsave(vmcb_address_);
  if (debug_registers_loaded_) {
    for (unsigned number = 0; number < 4; ++number) {
      debug_[number] = read_debug(number);
      write_debug(number, root_debug_[number]);
    }
    debug_registers_loaded_ = false;
    set_debug_intercepts(true);
  }
  if (features.tsc_aux) {
    tsc_aux_ = privileged::read_msr(kMsrTscAux);
    privileged::write_msr(kMsrTscAux, root_tsc_aux_);
  }
  if (features.xsave) {
    xcr0_ = privileged::read_xcr0();  // QEMU before 8.2 executes a guest's XSETBV without the exit that was asked for
    if (xcr0_ != features.xcr0) privileged::write_xcr0(features.xcr0);
  }
  save_extended(extended_state_);
  load_extended(static_cast<SvmVp*>(processor.root)->extended_state_);
  if (features.xsave && root_xcr0_ != features.xcr0) privileged::write_xcr0(root_xcr0_);
  vmload(processor.root_vmcb);
  loaded_ = false;
  processor.running = processor.root;
}

/// At the child's first access to a debug register since load.
void SvmVp::load_debug_registers() {
  for (unsigned number = 0; number < 4; ++number) {
    root_debug_[number] = read_debug(number);
    write_debug(number, debug_[number]);
  }
  debug_registers_loaded_ = true;
  set_debug_intercepts(false);
}

void SvmVp::set_debug_intercepts(bool on) { vmcb_.dr_reads = vmcb_.dr_writes = on ? 0xffff : 0; }

void SvmVp::fetch_extended_state() const {
  if (loaded_) save_extended(extended_state_);
}
void SvmVp::return_extended_state() const {
  if (loaded_) load_extended(extended_state_);
}

std::uint64_t SvmVp::debug_register(unsigned number) const {
  return debug_registers_loaded_ ? read_debug(number) : debug_[number];
}
void SvmVp::set_debug_register(unsigned number, std::uint64_t value) {
  debug_[number] = value;
  if (debug_registers_loaded_) write_debug(number, value);
}

}  // namespace bulkhead::hypervisor::svm
