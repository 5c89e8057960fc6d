// SPDX-License-Identifier: Apache-2.0
//
// A virtual processor on KVM, and how another thread gets it out of KVM_RUN:
//
//   run                              cancel, request_interrupt_window (another thread)
//   ───                              ─────
//   in_kernel = true                 flag = true
//   immediate_exit = 0               immediate_exit = 1
//   flag set? then return            in_kernel? then send kKickSignal to the thread
//   KVM_RUN
//
// If the flag is set after it was looked at, then immediate_exit is set after it was cleared, and KVM_RUN returns at
// once; if KVM_RUN has looked at that already, the signal ends it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <optional>
#include <vector>

#include "engine/engine.hpp"
#include "engine/file_descriptor.hpp"
#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_synic.hpp"
#include "engine/kvm/kvm_time.hpp"

namespace bulkhead::engine::kvm {

class KvmPartition;

class KvmVirtualProcessor final : public VirtualProcessor {
 public:
  /// The partition must live longer, and knows the processor from here on until it goes.
  static Result<std::unique_ptr<VirtualProcessor>> create(KvmPartition& partition, FileDescriptor processor,
                                                          std::uint32_t index, std::vector<kvm_cpuid_entry2> cpuid);
  ~KvmVirtualProcessor() override;

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

  /// `host_counter` is the host's time stamp counter.
  Result<> freeze(std::uint64_t host_counter);
  Result<> thaw(std::uint64_t host_counter);

 private:
  KvmVirtualProcessor(KvmPartition& partition, FileDescriptor processor, MappedMemory shared, std::uint32_t index,
                      std::vector<kvm_cpuid_entry2> cpuid);

  /// One access of a device: KVM gives string port instructions, and memory accesses of other sizes than 1, 2, 4 and 8,
  /// as one exit of several of them. `place` is where a read's value goes.
  struct Piece {
    Exit exit;
    std::uint8_t* place;
    std::uint8_t size;
    bool write;
  };

  Result<bool> enter(bool immediate);
  std::optional<Exit> next_piece();
  std::optional<Exit> translate();
  void split_port_exit();
  void split_mmio_exit();
  void handle_hyperv_exit();
  std::optional<Exit> handle_msr_write();
  CrashExit describe_crash();
  FailureExit describe_internal_error();
  Result<std::optional<Exit>> finish_access();
  Result<> reach_instruction_boundary();
  Result<> check_frozen() const;
  void kick();

  KvmPartition& partition_;
  FileDescriptor processor_;
  MappedMemory shared_;
  kvm_run* run_;
  std::uint32_t index_;
  std::vector<kvm_cpuid_entry2> cpuid_;
  KvmSynic* synic_;                   // of the partition, or none
  std::optional<FrozenTime> frozen_;  // while time stands still

  std::deque<Piece> pieces_;      // of the last exit, still to be returned
  std::optional<Piece> reading_;  // returned, its value not yet given
  bool translate_again_ = false;  // the exit in the shared page was not returned yet
  bool unfinished_ = false;       // the instruction of the last exit ends in the next KVM_RUN
  bool has_run_ = false;

  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> window_wanted_ = false;
  std::atomic<bool> in_kernel_ = false;
  std::atomic<pid_t> thread_ = 0;
};

}  // namespace bulkhead::engine::kvm
