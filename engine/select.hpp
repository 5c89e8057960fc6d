// SPDX-License-Identifier: Apache-2.0
//
// Which engine this host offers. `--engine native|kvm|auto` of the command line ends here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"
#include "error/error.hpp"

namespace bulkhead::engine {

/// When it is made sure that an engine that is there runs guests (Engine::try_out). With the first partition: nobody waits for it who has
/// something else to do first.
enum class TryOut : std::uint8_t { Now, WithFirstPartition };

/// "native" and "kvm" name an engine; "auto" takes the first that works, in this order.
/// Errors: an unknown name; for each engine that was tried, why it does not work here, all in one line.
Result<std::unique_ptr<Engine>> select_engine(std::string_view name, TryOut try_out = TryOut::Now);

/// One line of `bulkhead host info`.
struct EngineAvailability {
  std::string name;
  std::string obstacle;  // why the engine does not work here; empty: it works
};
std::vector<EngineAvailability> available_engines();

}  // namespace bulkhead::engine
