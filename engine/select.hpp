// SPDX-License-Identifier: Apache-2.0
//
// Which engine this host offers. `--engine native|kvm|auto` of the command line ends here.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"
#include "error/error.hpp"

namespace bulkhead::engine {

/// "native" and "kvm" name an engine; "auto" takes the first that is there, in this order. It is not tried out
/// (Engine::try_out): one that is there but cannot run guests says so when the first guest is to run.
/// Errors: an unknown name; for each engine that was looked for, why it is not there, all in one line.
Result<std::unique_ptr<Engine>> select_engine(std::string_view name);

/// One line of `bulkhead host info`, for which engines are tried out.
struct EngineAvailability {
  std::string name;
  std::string obstacle;  // why the engine does not work here; empty: it works
};
std::vector<EngineAvailability> available_engines();

}  // namespace bulkhead::engine
