// SPDX-License-Identifier: Apache-2.0
//
// One virtual machine: a worker's whole business.
//
//                          ┌───────────────────────────── Machine ─────────────────────────────┐
//   event loop thread ─────┤ serial ports, timers, start, pause, restart, end, control socket  │
//                          │        │                                                          │
//                          │   machine's lock ──▶ Motherboard: devices, interrupt controllers  │
//                          │        │                                                          │
//   one thread a processor ┤ run ─▶ exit ─▶ device access ─▶ run …                             │
//                          └───────────────────────────────────────────────────────────────────┘
//
// Its life:   create ── start ──▶ running ──▶ ended (powered off, reset, triple fault …)
//                                 ▲     │
//                                 └─────┘ reset or triple fault, where the settings say "restart"
//                              pause ⇅ resume
//
// What a guest asks for in a device access (a reset, say) only leaves a note and calls the processors off; the event
// loop then joins their threads and does it. A restart makes a new partition, so that nothing of the old one is left
// in its processors; devices go back to their power-on state and the kernel is loaded again.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/file_descriptor.hpp"
#include "engine/guest_memory.hpp"
#include "worker/control/controlled_machine.hpp"
#include "worker/ending.hpp"
#include "worker/integration_services.hpp"
#include "worker/machine_firmware.hpp"
#include "worker/machine_memory.hpp"
#include "worker/machine_storage.hpp"
#include "worker/motherboard.hpp"
#include "worker/processor_thread.hpp"
#include "worker/vmbus_host.hpp"

namespace bulkhead::worker {

struct MachineSettings {
  std::string name = "vm";
  std::uint64_t memory_size = 0;  // bytes
  std::uint32_t vp_count = 1;
  engine::FileDescriptor kernel;
  engine::FileDescriptor initrd;         // may be none
  engine::FileDescriptor bios = {};      // may be none: the kernel is entered directly
  engine::FileDescriptor boot_rom = {};  // with a BIOS
  std::string kernel_arguments;
  engine::FileDescriptor com1;  // may be none
  engine::FileDescriptor com2;
  bool debug_exit = false;
  /// Needs an engine with SynICs; none: if the engine has them. There is one if there are disks or dynamic memory.
  std::optional<bool> vmbus = {};
  IntegrationChoice integration = {};  // with a VMBus
  std::optional<DynamicMemorySettings> dynamic_memory = {};
  std::vector<DiskAttachment> disks = {};
  bool restart_on_reset = false;
};

/// Who wants to know what becomes of the machine. Called on the event loop, without the machine's lock.
class MachineObserver {
 public:
  virtual ~MachineObserver() = default;
  virtual void restarted(const std::string& why) = 0;
  virtual void paused() {}
  virtual void resumed() {}
  virtual void heartbeat_changed(vsp::integration::HeartbeatState) {}
  virtual void file_systems_let_go() {}
  /// Bytes that the machine now has.
  virtual void memory_changed(std::uint64_t) {}
  /// The machine is about to pause, because the host has no room for what its guest writes. Nothing is lost: make room,
  /// then resume it.
  virtual void host_is_full(const std::string&) {}
  /// The last that is heard of the machine: its processors have stopped and its serial ports are flushed.
  virtual void ended(const Ending& ending) = 0;
};

/// To be made, called and destroyed on the event loop's thread, or while that does not run.
class Machine final : public control::ControlledMachine,
                      private ExitHandler,
                      private vdev::MachineControl,
                      private IntegrationObserver {
 public:
  /// Makes the machine and loads its kernel. Errors: more processors than the engine has, not enough memory, no kernel,
  /// and what the engine says. The engine, the observer and the event loop must live longer.
  static Result<std::unique_ptr<Machine>> create(boost::asio::io_context& event_loop, engine::Engine& engine,
                                                 MachineObserver& observer, MachineSettings settings);
  ~Machine() override;

  /// Runs the machine. Error: no threads to be had.
  Result<> start();
  /// Ends the machine from outside; `why` goes into the ending.
  void end(std::string why);

  // control::ControlledMachine
  control::MachineFacts facts() override;
  /// The live tree of the state of all units.
  void inspect(state::Inspection& node) override;
  Result<> pause() override;
  Result<> resume() override;
  void turn_off() override;
  void reset() override;
  Result<std::uint8_t> attach_disk(DiskAttachment disk) override;
  Result<> detach_disk(std::uint8_t number, std::function<void(Result<>)> gone) override;
  Result<> grow_disk(std::uint8_t number, std::uint64_t size) override;
  Result<> set_disk_limits(std::uint8_t number, vsp::storage::Limits limits) override;
  std::unique_lock<std::mutex> hold() override { return std::unique_lock(lock_); }
  IntegrationServices* integration() override { return integration_.get(); }
  vsp::memory::DynamicMemory* dynamic_memory() override { return dynamic_memory_.get(); }

 private:
  Machine(boost::asio::io_context& event_loop, engine::Engine& engine, MachineObserver& observer,
          MachineSettings settings);

  Result<> check_processors() const;
  Result<> make_memory();
  Result<> make_motherboard();
  Result<> make_vmbus();
  Result<> make_dynamic_memory();
  Result<> make_storage();
  Result<> boot();
  Result<> make_partition();
  Result<> run_processors();
  void stop_processors();
  void take_down();
  Result<> restart();
  void pause_for_full_host(const std::string& why);

  bool handle_exit(engine::VirtualProcessor& vp, const engine::Exit& exit) override;
  void handle_engine_failure(engine::VirtualProcessor& vp, const Error& error) override;
  void handle_rare_exit(engine::VirtualProcessor& vp, const engine::Exit& exit);

  void request_reset(std::string_view why) override;
  void request_power_off(std::string_view why) override;
  void request_exit(std::uint32_t value) override;
  void report_panic(std::string_view how) override;

  // IntegrationObserver
  void heartbeat_changed(vsp::integration::HeartbeatState state) override;
  void file_systems_let_go() override;
  /// Calls the observer on the event loop.
  template <typename Function>
  void tell_observer(Function function);

  /// With the lock held. The first request counts; it ends the current run of the processors.
  void request(Ending ending);
  /// On the event loop: does what was requested.
  void carry_out_request();

  boost::asio::io_context& event_loop_;
  // The event loop has work while there is a machine, if only to wait for its end.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  engine::Engine& engine_;
  MachineObserver& observer_;
  MachineSettings settings_;

  std::mutex lock_;
  std::optional<Ending> requested_;
  bool paused_ = false;
  std::uint64_t restarts_ = 0;
  state::Nanoseconds started_at_{0};  // of the machine's time
  std::optional<Ending> panic_;       // the guest has panicked, and may have something to say about it
  boost::asio::steady_timer last_words_;
  MachineFirmware firmware_;
  std::unique_ptr<engine::GuestMemory> memory_;
  std::unique_ptr<Motherboard> motherboard_;
  // What uses the clock goes before it, and the bus before those that it calls.
  std::unique_ptr<IntegrationServices> integration_;            // with a VMBus
  std::optional<MachineMemoryPort> memory_port_;                // of the following
  std::unique_ptr<vsp::memory::DynamicMemory> dynamic_memory_;  // or none
  std::unique_ptr<VmbusHost> vmbus_;                            // or none
  std::unique_ptr<MachineStorage> storage_;                     // with a VMBus; its last answers go over that
  std::unique_ptr<engine::Partition> partition_;
  std::vector<std::unique_ptr<ProcessorThread>> processors_;
  std::shared_ptr<bool> alive_;  // a request may still be queued when the machine has gone
};

}  // namespace bulkhead::worker
