// SPDX-License-Identifier: Apache-2.0
//
// VpHardware by AMD's SVM. One class serves the root's processors and the children's; they differ in what is
// intercepted and in that the root's state always stays on its logical processor while no child is loaded.
//
//   frame 0: this object     frame 1: VMCB     frame 2: XSAVE area
#pragma once

#include <cstdint>

#include "hypervisor/svm/vmcb.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor {
struct LogicalProcessor;
}

namespace bulkhead::hypervisor::svm {

enum class Role : std::uint8_t { Root, Child };

inline constexpr std::size_t kFramesPerVp = 3;
inline constexpr std::size_t kExtendedStateSize = 4096;

class SvmVp final : public VpHardware {
 public:
  SvmVp(Role role, Frame vmcb, Frame extended_state, const VpHardwareSettings& settings);

  void load() override;
  void unload() override;
  const Exit& enter() override;
  void flush_tlb() override { address_space_ = 0; }
  void request_interrupt_window(unsigned priority) override;
  void request_nmi_window() override { nmi_window_ = true; }
  ExecutionMode mode() const override {
    const VmcbSegment& cs = vmcb_.cs;
    return {vmcb_.cr0,
            vmcb_.cr3,
            vmcb_.cr4,
            vmcb_.efer & ~kEferSvm,
            {cs.base, cs.limit, cs.selector, from_vmcb(cs.attributes)},
            vmcb_.cpl};
  }
  std::uint64_t code_space() const override {
    return vmcb_.cr3 ^ vmcb_.cs.base << 20 ^ std::uint64_t{vmcb_.cs.attributes} << 52;
  }
  void reset(bool init) override;
  void mask_nmi(bool masked) override;
  std::span<std::byte, kPageSize> extended_state() override {
    return std::span<std::byte, kPageSize>(extended_state_, kExtendedStateSize);
  }
  void set_tsc_offset(std::int64_t offset) override;
  void set_exception_intercepts(std::uint32_t vectors) override;
  std::expected<abi::RegisterValue, hv_status> get_register(abi::RegisterName name) const override;
  hv_status set_register(abi::RegisterName name, const abi::RegisterValue& value) override;

  /// For the root: its state is on this logical processor from now on, whenever no child is loaded.
  void stay_loaded();

  void publish(abi::RegisterPage& page) const override;
  void log_exit() const override;

 private:
  void prepare(LogicalProcessor& processor);
  void take_address_space(LogicalProcessor& processor);
  void inject_event();
  void take_state();
  bool understand_exit(LogicalProcessor& processor);
  bool exit_for_exception(unsigned vector);
  bool exit_for_nmi(LogicalProcessor& processor);
  void understand_port();
  void understand_memory();
  void load_debug_registers();
  void set_debug_intercepts(bool on);
  bool finish(ExitReason reason) {
    exit_.reason = reason;
    return true;
  }

  std::uint64_t* plain_register(abi::RegisterName name) const;
  VmcbSegment* segment_register(abi::RegisterName name) const;
  std::byte* fpu_register(abi::RegisterName name, std::size_t& size) const;
  void update_long_mode();
  void reset_model_specific();

  // While the VP is loaded, some of its state is only on the processor: FS, GS, LDTR, TR and the system call MSRs, FPU
  // and debug registers. These bring it to memory, and a change back; otherwise they do nothing.
  void store_guest() const;
  void load_guest() const;
  void fetch_extended_state() const;
  void return_extended_state() const;
  std::uint64_t debug_register(unsigned number) const;
  void set_debug_register(unsigned number, std::uint64_t value);

  Vmcb& vmcb_;
  std::uint64_t vmcb_address_;
  std::byte* extended_state_;
  Role role_;
  bool loaded_ = false;
  bool nmi_window_ = false;  // asked for
  bool stepping_over_iret_ = false;
  bool debug_registers_loaded_ = false;
  std::uint32_t exceptions_ = 0;
  std::uint32_t interrupt_window_ = 0;
  /// LogicalProcessor::address_space as it was when this VP took its identifier; 0: its translations are not to be used.
  std::uint64_t address_space_ = 0;
  std::uint64_t xcr0_ = 1;
  std::uint64_t tsc_aux_ = 0;
  std::uint64_t debug_[4] = {};
  // What the root had on this logical processor while this VP is loaded.
  std::uint64_t root_xcr0_ = 0;
  std::uint64_t root_tsc_aux_ = 0;
  std::uint64_t root_debug_[4] = {};
  Exit exit_{};
};

}  // namespace bulkhead::hypervisor::svm
