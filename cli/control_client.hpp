// SPDX-License-Identifier: Apache-2.0
//
// A running machine, reached by its name: its control socket (docs/control-protocol.md), a request at a time.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"

namespace bulkhead::cli {

using Json = nlohmann::ordered_json;

class ControlClient {
 public:
  /// Error: there is no such machine.
  static Result<ControlClient> connect(const std::string& name);

  /// Sends the request, with 64 files at most, and waits for its result; events that come meanwhile are dropped.
  /// Error: what the machine says, or that it has gone.
  Result<Json> call(Json request, std::span<const engine::FileDescriptor> files = {});
  /// The next object that the machine sends. Nothing: it has gone.
  std::optional<Json> receive();

 private:
  explicit ControlClient(engine::FileDescriptor socket) : socket_(std::move(socket)) {}
  Result<> send(const Json& request, std::span<const engine::FileDescriptor> files);

  engine::FileDescriptor socket_;
  std::string input_;
};

}  // namespace bulkhead::cli
