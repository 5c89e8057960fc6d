// SPDX-License-Identifier: Apache-2.0
// See fuzz_service.hpp.
#include "tests/vsp/integration/fuzz_service.hpp"
#include "vsp/integration/volume_snapshot.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::integration;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FakeClock clock;
  Asked asked;
  VolumeSnapshot service(clock, [] {});
  ServiceFuzz fuzz(clock, service, {{5, 0}}, asked, [&](fuzz::Input& input) {
    const std::uint8_t what = input.byte();
    if (what & 1)
      service.freeze(std::chrono::seconds(what), asked.expect());
    else
      service.thaw(asked.expect());
  });
  fuzz.run({data, size});
  fuzz::check(service.state() == VolumeSnapshot::State::Thawed);
  return 0;
}
