// SPDX-License-Identifier: Apache-2.0
// See fuzz_service.hpp.
#include "tests/vsp/integration/fuzz_service.hpp"
#include "vsp/integration/shutdown.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::integration;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FakeClock clock;
  Asked asked;
  Shutdown service(clock);
  ServiceFuzz fuzz(clock, service, {{3, 2}, {3, 1}, {3, 0}, {1, 0}}, asked, [&](fuzz::Input& input) {
    const std::uint8_t how = input.byte();
    service.shut_down(static_cast<ShutdownKind>(how % 3), how & 4, input.text(), asked.expect());
  });
  fuzz.run({data, size});
  return 0;
}
