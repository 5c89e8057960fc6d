// SPDX-License-Identifier: Apache-2.0
#include "cli/worker_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <vector>

namespace bulkhead::cli {
namespace {

std::optional<int> number_of(const engine::FileDescriptor& file) {
  return file.is_open() ? std::optional(file.get()) : std::nullopt;
}

/// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void become_worker(const char* program, char* const* arguments, std::span<const int> files, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(127);  // it ended before the line above
  for (const int file : files) fcntl(file, F_SETFD, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(program, arguments);
  _exit(127);
}

}  // namespace

Result<WorkerProcess> WorkerProcess::start(const std::string& program, worker::CommandLine settings,
                                           WorkerFiles files) {
  std::array<int, 2> pipe_ends{};
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) return std::unexpected(Error::from_errno("cannot make a pipe", errno));
  engine::FileDescriptor reports(pipe_ends[0]);
  engine::FileDescriptor reports_writer(pipe_ends[1]);

  settings.kernel_fd = files.kernel.get();
  settings.initrd_fd = number_of(files.initrd);
  settings.bios_fd = number_of(files.bios);
  settings.boot_rom_fd = number_of(files.boot_rom);
  settings.com1_fd = number_of(files.com1);
  settings.control_fd = number_of(files.control);
  settings.report_fd = reports_writer.get();
  std::vector<int> inherited{settings.kernel_fd, *settings.report_fd};
  for (const auto& number :
       {settings.initrd_fd, settings.bios_fd, settings.boot_rom_fd, settings.com1_fd, settings.control_fd}) {
    if (number) inherited.push_back(*number);
  }
  if (files.name_lock.is_open()) inherited.push_back(files.name_lock.get());
  for (const auto& disk : files.disks) inherited.push_back(disk.get());

  std::vector<std::string> arguments = worker::to_arguments(settings);
  std::string name = "bulkhead-vmwp";
  std::vector<char*> argument_values{name.data()};
  for (auto& argument : arguments) argument_values.push_back(argument.data());
  argument_values.push_back(nullptr);

  const pid_t parent = getpid();
  const pid_t process = fork();
  if (process < 0) return std::unexpected(Error::from_errno("cannot start a process", errno));
  if (process == 0) become_worker(program.c_str(), argument_values.data(), inherited, parent);
  return WorkerProcess(process, std::move(reports));
}

WorkerProcess::~WorkerProcess() {
  if (process_ < 0) return;
  signal(SIGKILL);
  wait();
}

void WorkerProcess::signal(int number) const {
  if (process_ > 0) kill(process_, number);
}

int WorkerProcess::wait() {
  int status = 0;
  while (waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
  return status;
}

Result<std::string> find_worker_program() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path name = "bulkhead-vmwp";
  // In the build tree the two programs lie in the folders of their rooms.
  const std::array<std::filesystem::path, 3> places = {self.parent_path() / name,
                                                       self.parent_path().parent_path() / "worker" / name,
                                                       std::filesystem::path(BULKHEAD_LIBEXEC_DIRECTORY) / name};
  for (const auto& place : places) {
    if (access(place.c_str(), X_OK) == 0) return place.string();
  }
  return fail(fmt::format("cannot find the program bulkhead-vmwp beside '{}' or in '{}'", self.string(),
                          BULKHEAD_LIBEXEC_DIRECTORY));
}

}  // namespace bulkhead::cli
