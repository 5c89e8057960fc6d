// SPDX-License-Identifier: Apache-2.0
#include "engine/select.hpp"

#include <fmt/format.h>

#include <array>

#include "engine/kvm/kvm_engine.hpp"
#include "engine/native/native_engine.hpp"

namespace bulkhead::engine {
namespace {

struct Candidate {
  std::string_view name;
  Result<std::unique_ptr<Engine>> (*open)();
};
constexpr std::array<Candidate, 2> kCandidates = {{{"native", native::open_engine}, {"kvm", kvm::open_engine}}};

}  // namespace

Result<std::unique_ptr<Engine>> select_engine(std::string_view name) {
  std::string obstacles;
  bool known = name == "auto";
  for (const auto& candidate : kCandidates) {
    if (name != "auto" && name != candidate.name) continue;
    known = true;
    auto engine = candidate.open();
    if (engine) return engine;
    obstacles += fmt::format("{}{}: {}", obstacles.empty() ? "" : "; ", candidate.name, engine.error().message());
  }
  if (!known) return fail(fmt::format("there is no engine '{}'; use native, kvm or auto", name));
  return fail(fmt::format("no engine can run a machine here: {}", obstacles));
}

std::vector<EngineAvailability> available_engines() {
  std::vector<EngineAvailability> availabilities;
  for (const auto& candidate : kCandidates) {
    const auto engine = candidate.open();
    const auto works = engine ? (*engine)->try_out() : std::unexpected(engine.error());
    availabilities.push_back({std::string(candidate.name), works ? "" : works.error().message()});
  }
  return availabilities;
}

}  // namespace bulkhead::engine
