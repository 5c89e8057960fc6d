// SPDX-License-Identifier: Apache-2.0
#include "cli/run_command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <iterator>

#include "cli/console_session.hpp"
#include "cli/disk_attachment.hpp"
#include "cli/size.hpp"
#include "cli/terminal.hpp"
#include "cli/worker_process.hpp"
#include "worker/control/endpoint.hpp"
#include "worker/ending.hpp"

namespace bulkhead::cli {
namespace {

constexpr std::string_view kFileConsole = "file:";

Result<engine::FileDescriptor> open_image(const std::string& path) {
  const int number = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (number < 0) return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'", path), errno));
  engine::FileDescriptor file(number);
  struct stat status{};
  if (fstat(number, &status) != 0 || !S_ISREG(status.st_mode)) return fail(fmt::format("'{}' is not a file", path));
  if (status.st_size == 0) return fail(fmt::format("'{}' is empty", path));
  return file;
}

/// The guest's end of the console, and ours, which is there only for "stdio".
struct Console {
  engine::FileDescriptor guest;
  engine::FileDescriptor user;
};

Result<Console> open_console(const std::string& choice) {
  if (choice == "none") return Console{};
  if (choice.starts_with(kFileConsole)) {
    const std::string path = choice.substr(kFileConsole.size());
    const int number = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (number < 0) return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'", path), errno));
    return Console{engine::FileDescriptor(number), {}};
  }
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return std::unexpected(Error::from_errno("cannot make the console", errno));
  }
  return Console{engine::FileDescriptor(ends[0]), engine::FileDescriptor(ends[1])};
}

Result<std::uint64_t> size_option(const char* name, const std::string& text) {
  auto size = parse_size(text);
  if (!size) return std::unexpected(size.error().within(name));
  return size;
}

Result<> add_dynamic_memory(const RunOptions& options, worker::CommandLine& settings) {
  if (options.memory_minimum.empty() && options.memory_maximum.empty()) {
    if (!options.memory_buffer && !options.memory_weight) return {};
    return fail("--memory-buffer and --memory-weight need --memory-minimum or --memory-maximum");
  }
  auto& memory = settings.dynamic_memory.emplace();
  memory.minimum = memory.maximum = settings.memory_size;
  if (!options.memory_minimum.empty()) {
    auto size = size_option("--memory-minimum", options.memory_minimum);
    if (!size) return std::unexpected(size.error());
    memory.minimum = *size;
  }
  if (!options.memory_maximum.empty()) {
    auto size = size_option("--memory-maximum", options.memory_maximum);
    if (!size) return std::unexpected(size.error());
    memory.maximum = *size;
  }
  memory.buffer_percent = options.memory_buffer.value_or(memory.buffer_percent);
  memory.weight = options.memory_weight.value_or(memory.weight);
  return {};
}

Result<> add_services(const RunOptions& options, worker::CommandLine& settings) {
  if (!options.integration.empty()) {
    auto choice = worker::parse_integration_choice(options.integration);
    if (!choice) return std::unexpected(choice.error().within("--integration"));
    settings.integration = *choice;
  }
  if (auto added = add_dynamic_memory(options, settings); !added) return added;
  settings.vmbus = options.vmbus;
  const char* user = !options.integration.empty() ? "--integration"
                     : settings.dynamic_memory    ? "dynamic memory"
                     : !options.disks.empty()     ? "--disk"
                     : !options.dvds.empty()      ? "--dvd"
                                                  : nullptr;
  if (user == nullptr) return {};
  if (settings.vmbus == false) return fail(fmt::format("--no-vmbus leaves no place for {}", user));
  settings.vmbus = true;
  return {};
}

Result<> add_disks(const RunOptions& options, worker::CommandLine& settings, WorkerFiles& files) {
  const auto add = [&](const char* name, Result<DiskFiles> disk) -> Result<> {
    if (!disk) return std::unexpected(disk.error().within(name));
    settings.disks.push_back(std::move(disk->option));
    std::ranges::move(disk->files, std::back_inserter(files.disks));
    return {};
  };
  for (const auto& disk : options.disks) {
    if (auto added = add("--disk", open_disk_files(disk)); !added) return added;
  }
  for (const auto& dvd : options.dvds) {
    if (auto added = add("--dvd", open_dvd_files(dvd)); !added) return added;
  }
  return {};
}

/// The BIOS and its boot ROM, where Debian's packages have them.
Result<> add_bios(WorkerFiles& files) {
  const auto open_of_package = [](const char* path, const char* package) {
    auto file = open_image(path);
    return file ? std::move(file)
                : std::unexpected(file.error().within(fmt::format("--firmware bios needs the package {}", package)));
  };
  auto bios = open_of_package("/usr/share/seabios/bios.bin", "seabios");
  if (!bios) return std::unexpected(bios.error());
  auto boot_rom = open_of_package("/usr/share/qemu/linuxboot_dma.bin", "qemu-system-data");
  if (!boot_rom) return std::unexpected(boot_rom.error());
  files.bios = std::move(*bios);
  files.boot_rom = std::move(*boot_rom);
  return {};
}

Result<WorkerProcess> start_worker(const RunOptions& options, engine::FileDescriptor console,
                                   worker::control::Endpoint endpoint) {
  worker::CommandLine settings;
  settings.name = options.name;
  settings.engine = options.engine;
  settings.vp_count = options.vps;
  settings.kernel_arguments = options.arguments;
  settings.debug_exit = options.debug_exit;
  settings.restart_on_reset = options.on_reset == "restart";
  auto memory = size_option("--memory", options.memory);
  if (!memory) return std::unexpected(memory.error());
  settings.memory_size = *memory;
  if (auto added = add_services(options, settings); !added) return std::unexpected(added.error());

  WorkerFiles files;
  auto kernel = open_image(options.kernel);
  if (!kernel) return std::unexpected(kernel.error().within("--kernel"));
  files.kernel = std::move(*kernel);
  if (!options.initrd.empty()) {
    auto initrd = open_image(options.initrd);
    if (!initrd) return std::unexpected(initrd.error().within("--initrd"));
    files.initrd = std::move(*initrd);
  }
  if (options.firmware == "bios") {
    if (auto added = add_bios(files); !added) return std::unexpected(added.error());
  }
  files.com1 = std::move(console);
  files.control = std::move(endpoint.listener);
  files.name_lock = std::move(endpoint.lock);
  if (auto added = add_disks(options, settings, files); !added) return std::unexpected(added.error());
  auto program = find_worker_program();
  if (!program) return std::unexpected(program.error());
  return WorkerProcess::start(*program, std::move(settings), std::move(files));
}

/// The name of the control socket in the file system: it goes when the machine has ended.
class SocketPath {
 public:
  explicit SocketPath(std::string path) : path_(std::move(path)) {}
  SocketPath(const SocketPath&) = delete;
  SocketPath& operator=(const SocketPath&) = delete;
  ~SocketPath() {
    if (!path_.empty()) unlink(path_.c_str());
  }

 private:
  std::string path_;
};

int refuse(const RunOptions& options, const std::string& why) {
  fmt::print(stderr, "bulkhead: cannot start '{}': {}\n", options.name, why);
  return worker::exit_status({worker::EndingKind::NotStarted, ""});
}

}  // namespace

int run_machine(const RunOptions& options) {
  auto console = open_console(options.console);
  if (!console) return refuse(options, console.error().within("--console").message());
  const bool has_console = console->user.is_open();
  const bool at_terminal = has_console && is_foreground_terminal(STDIN_FILENO);
  worker::control::Endpoint endpoint;
  if (options.named) {
    auto made = worker::control::make_endpoint(options.name);
    if (!made) return refuse(options, made.error().message());
    endpoint = std::move(*made);
  }
  const SocketPath socket(endpoint.path);
  auto started = start_worker(options, std::move(console->guest), std::move(endpoint));
  if (!started) return refuse(options, started.error().message());

  if (at_terminal) fmt::print(stderr, "bulkhead: console of '{}'; Ctrl-] leaves and ends it\n", options.name);
  WorkerEnd end{};
  {
    ConsoleSession session(*started, std::move(console->user), {.input = STDIN_FILENO, .output = STDOUT_FILENO});
    RawTerminal raw(at_terminal ? STDIN_FILENO : -1);
    end = session.run(raw.active() ? InputKind::Keys : InputKind::Bytes);
  }
  if (!end.started) return refuse(options, end.line);
  fmt::print(stderr, "{}bulkhead: {}: {}\n", at_terminal ? "\n" : "", options.name, end.line);
  return end.status;
}

}  // namespace bulkhead::cli
