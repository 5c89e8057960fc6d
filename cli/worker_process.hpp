// SPDX-License-Identifier: Apache-2.0
//
// A worker that this program started: its process, and the two streams that lead to it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"
#include "worker/command_line.hpp"

namespace bulkhead::cli {

/// The file descriptors that a machine gets besides what its command line says.
struct WorkerFiles {
  engine::FileDescriptor kernel;
  engine::FileDescriptor initrd;  // may be none
  engine::FileDescriptor bios;    // may be none, as the following
  engine::FileDescriptor boot_rom;
  engine::FileDescriptor com1;     // may be none
  engine::FileDescriptor control;  // a socket that listens; may be none
  /// Locked: the machine's name is its own as long as the worker lives. It does nothing else with it. May be none.
  engine::FileDescriptor name_lock;
  std::vector<engine::FileDescriptor> disks;  // whose numbers the settings have already
};

class WorkerProcess {
 public:
  /// Starts `program` with the settings and the files; the descriptors' numbers are put into the settings here. The
  /// worker ends when this process ends. Error: the program is not there or cannot be run.
  static Result<WorkerProcess> start(const std::string& program, worker::CommandLine settings, WorkerFiles files);

  WorkerProcess(WorkerProcess&& other) noexcept
      : process_(std::exchange(other.process_, -1)), reports_(std::move(other.reports_)) {}
  WorkerProcess& operator=(WorkerProcess&&) = delete;
  /// Kills it if it still runs.
  ~WorkerProcess();

  /// The reading end of its reports (worker/report.hpp). It ends when the worker has ended.
  int reports() const { return reports_.get(); }
  void signal(int number) const;
  /// Waits for its end. Gives the status as waitpid does.
  int wait();

 private:
  WorkerProcess(pid_t process, engine::FileDescriptor reports) : process_(process), reports_(std::move(reports)) {}

  pid_t process_;
  engine::FileDescriptor reports_;
};

/// Where bulkhead-vmwp lies: beside this program, or else where it is installed. Error: in neither place.
Result<std::string> find_worker_program();

}  // namespace bulkhead::cli
