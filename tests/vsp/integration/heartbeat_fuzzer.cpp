// SPDX-License-Identifier: Apache-2.0
// See fuzz_service.hpp.
#include "tests/vsp/integration/fuzz_service.hpp"
#include "vsp/integration/heartbeat.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::integration;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FakeClock clock;
  Asked asked;
  HeartbeatState last = HeartbeatState::NoContact;
  Heartbeat service(clock, [&](HeartbeatState state) {
    fuzz::check(state != last);  // only changes are told
    last = state;
  });
  ServiceFuzz fuzz(clock, service, {{3, 0}, {1, 0}}, asked, [](fuzz::Input&) {});
  fuzz.run({data, size});
  return 0;
}
