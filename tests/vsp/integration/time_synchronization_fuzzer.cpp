// SPDX-License-Identifier: Apache-2.0
// See fuzz_service.hpp.
#include "tests/vsp/integration/fuzz_service.hpp"
#include "vsp/integration/time_synchronization.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::integration;

namespace {

class Reference final : public ReferenceTime {
 public:
  std::optional<std::uint64_t> reference_time() const override { return time; }
  std::optional<std::uint64_t> time = 1;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FakeClock clock;
  FakeWallClock wall(clock, 1'700'000'000);
  Reference reference;
  Asked asked;
  TimeSynchronization service(clock, wall, &reference);
  ServiceFuzz fuzz(clock, service, {{4, 0}, {3, 0}, {1, 0}}, asked, [&](fuzz::Input& input) {
    wall.jump(std::chrono::milliseconds(static_cast<std::int32_t>(input.word())));
    const std::uint8_t time = input.byte();
    reference.time = time == 0 ? std::nullopt : std::optional<std::uint64_t>(time);
  });
  fuzz.run({data, size});
  return 0;
}
