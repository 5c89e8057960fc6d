// SPDX-License-Identifier: Apache-2.0
#include "worker/report.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace bulkhead::worker {
namespace {

using nlohmann::json;

std::string to_line_of_text(const json& object) {
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace

Reporter::Reporter(int descriptor) : descriptor_(descriptor) {
  if (descriptor_ >= 0) fcntl(descriptor_, F_SETFL, fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
}

void Reporter::started(std::string_view engine) { send(to_line_of_text({{"event", "started"}, {"engine", engine}})); }

void Reporter::restarted(std::string_view why) { send(to_line_of_text({{"event", "restarted"}, {"why", why}})); }

void Reporter::paused(std::string_view why) { send(to_line_of_text({{"event", "paused"}, {"why", why}})); }

void Reporter::resumed() { send(to_line_of_text({{"event", "resumed"}})); }

void Reporter::ended(const Ending& ending) {
  json object = {
      {"event", "ended"}, {"how", word(ending.kind)}, {"detail", ending.detail}, {"status", exit_status(ending)}};
  if (ending.kind == EndingKind::Exited) object["value"] = ending.value;
  send(to_line_of_text(object));
}

void Reporter::send(std::string line) {
  if (descriptor_ < 0) return;
  // A line is shorter than PIPE_BUF and so written whole or not at all; SIGPIPE is ignored by the program.
  [[maybe_unused]] const auto written = ::write(descriptor_, line.data(), line.size());
}

}  // namespace bulkhead::worker
