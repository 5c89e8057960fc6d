// SPDX-License-Identifier: Apache-2.0
//
// QEMU's monitor (QMP) of a test's machine: one JSON object a line, in both directions.
#pragma once

#include <chrono>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace bulkhead::lab {

/// How a machine ended by itself.
enum class MachineEnd : std::uint8_t { PowerOff, Reset, Other };

class Control {
 public:
  /// Connects to the socket as soon as it is there. Nothing if it does not come within the limit.
  static std::optional<Control> connect(const std::filesystem::path& socket, std::chrono::seconds limit);
  ~Control();
  Control(Control&& other) noexcept;
  Control& operator=(Control&&) = delete;

  /// Executes a command without arguments. False if the machine has gone.
  bool execute(const std::string& command);
  /// Waits until the machine tells why it ends. Nothing if it does not within the limit.
  std::optional<MachineEnd> wait_for_end(std::chrono::seconds limit);

 private:
  explicit Control(int descriptor) : descriptor_(descriptor) {}
  /// The next whole line. Nothing at the end of the stream or at the deadline.
  std::optional<nlohmann::json> read_object(std::chrono::steady_clock::time_point deadline);

  int descriptor_;
  std::string pending_;
};

}  // namespace bulkhead::lab
