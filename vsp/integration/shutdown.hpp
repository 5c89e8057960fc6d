// SPDX-License-Identifier: Apache-2.0
//
// Shutdown: asks the guest's operating system to power off, to restart or to hibernate. What then happens is the
// guest's: it answers that it will, and the machine ends, or not.
#pragma once

#include <functional>

#include "abi/integration/shutdown.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

enum class ShutdownKind : std::uint8_t { PowerOff, Restart, Hibernate };

class Shutdown final : public Service {
 public:
  /// Called once: the guest has agreed, or why not.
  using Done = std::function<void(Result<>)>;

  explicit Shutdown(state::Clock& clock);

  /// `force`: the guest shall not ask its users. `message` is shown to them, and cut at 2047 bytes.
  void shut_down(ShutdownKind kind, bool force, std::string_view message, Done done);

 private:
  bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) override;
  void on_silence() override;
  void on_closed() override;
  void on_restored() override;
  void finish(Result<> result);

  Done done_;  // while a request is under way
};

}  // namespace bulkhead::vsp::integration
