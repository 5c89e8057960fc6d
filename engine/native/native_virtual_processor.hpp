// SPDX-License-Identifier: Apache-2.0
//
// A virtual processor of the hypervisor: it turns intercept messages into exits.
//
//   RUN_VP ──▶ message ──┬── port                 ──▶ PortExit; RIP, and RAX of a read, go into the register page
//                        ├── memory, string port  ──▶ emulator ──▶ one exit for each access, then the registers
//                        ├── EOI, deliverable     ──▶ EoiExit, InterruptWindowExit
//                        ├── hypercall, slot free ──▶ the partition's SynicListener, and on
//                        ├── RESET, CRASH_CTL     ──▶ ResetExit, CrashExit
//                        └── triple fault         ──▶ TripleFaultExit
//
// The register page is written only between a run that ended with an intercept and the next one.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "engine/emulator/emulator.hpp"
#include "engine/engine.hpp"
#include "engine/native/vid.hpp"
#include "engine/synic_calls.hpp"

namespace bulkhead::engine::native {

class NativePartition;

class NativeVirtualProcessor final : public VirtualProcessor, private emulator::VectorRegisters {
 public:
  /// Of a partition that has its memory, and lives longer.
  NativeVirtualProcessor(std::unique_ptr<VidProcessor> processor, NativePartition& partition, std::uint32_t index,
                         std::uint8_t physical_address_bits);

  std::uint32_t index() const override { return index_; }
  Result<Exit> run() override;
  void complete_read(std::uint64_t value) override;
  void cancel() override;
  void request_interrupt_window(bool wanted) override;
  Result<> inject_external_interrupt(std::uint8_t vector) override;
  Result<> set_registers(std::span<const RegisterAssignment> assignments) override;
  Result<> get_registers(std::span<RegisterAssignment> assignments) override;
  Result<state::SavedUnit> save() override;
  Result<> restore(const state::SavedUnit& saved) override;

 private:
  /// What the instruction of the last exit still needs.
  enum class Unfinished : std::uint8_t { Nothing, PortRead, EmulatedWrite, EmulatedRead };
  /// Whether `run` returns its result now, or enters the guest. The result is handed on by reference so that an Exit,
  /// which can hold a text, need not be moved from function to function at each exit.
  enum class After : std::uint8_t { Enter, Return };

  Result<RunEnd> enter();
  After translate(Result<Exit>& result);
  After translate_port(const abi::IoPortIntercept& intercept, Result<Exit>& result);
  After translate_hypercall(const abi::HypercallIntercept& call, Result<Exit>& result);
  After translate_msr(const abi::MsrIntercept& intercept, Result<Exit>& result);
  After translate_memory(const abi::MemoryIntercept& intercept, Result<Exit>& result);
  After emulate(emulator::AccessHint hint, Result<Exit>& result);
  After take(const emulator::Step& step, Result<Exit>& result);
  After go_on(Result<Exit>& result);
  static After give_up(Result<Exit>& result, const Error& error);
  static After fail_with(Result<Exit>& result, std::string why);
  Result<> deliver(const emulator::Fault& fault);
  void publish_emulated_state();
  Result<> leave_instruction(unsigned length);
  Result<> inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code);
  Result<> single_step();
  Result<> flush_register_page();
  Result<> set(abi::RegisterName name, std::uint64_t value);
  Result<> ask_for_window();
  Result<> check_frozen() const;

  // emulator::VectorRegisters
  bool read(unsigned index, std::span<std::uint8_t, 16> value) override;
  bool write(unsigned index, std::span<const std::uint8_t, 16> value, bool clear_upper) override;

  std::unique_ptr<VidProcessor> processor_;
  NativePartition& partition_;
  const GuestMemory& memory_;
  const SynicCalls& synic_calls_;
  std::uint32_t index_;
  abi::RegisterPage& page_;

  emulator::Emulator emulator_;
  emulator::ProcessorState state_{};
  Unfinished unfinished_ = Unfinished::Nothing;
  unsigned port_read_size_ = 0;
  unsigned port_read_length_ = 0;
  std::uint64_t read_value_ = 0;

  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> in_driver_ = false;
  std::atomic<bool> window_wanted_ = false;
  bool window_asked_ = false;  // the hypervisor will tell
};

}  // namespace bulkhead::engine::native
