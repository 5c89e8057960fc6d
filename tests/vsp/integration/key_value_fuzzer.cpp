// SPDX-License-Identifier: Apache-2.0
// See fuzz_service.hpp.
#include "tests/vsp/integration/fuzz_service.hpp"
#include "vsp/integration/key_value_exchange.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::integration;

namespace {

/// For an operation that gives something.
template <typename T>
KeyValueExchange::Done<T> expect(Asked& asked) {
  return [done = asked.expect()](const Result<T>&) { done({}); };
}

void ask(KeyValueExchange& service, Asked& asked, fuzz::Input& input) {
  const std::uint8_t what = input.byte();
  const auto pool = static_cast<KeyValuePool>(what >> 4);
  switch (what % 6) {
    case 0: return service.set(pool, input.text(), input.text(), asked.expect());
    case 1: return service.remove(pool, input.text(), asked.expect());
    case 2: return service.get(pool, input.text(), expect<std::optional<std::string>>(asked));
    case 3: return service.enumerate(pool, expect<std::vector<KeyValueItem>>(asked));
    case 4: return service.get_addresses(input.text(), expect<GuestAddresses>(asked));
    default: break;
  }
  const std::string any = input.text();
  GuestAddresses wanted{.dhcp = (what & 0x80) != 0};
  for (std::uint8_t count = input.byte() % 80; count > 0; --count) {
    const bool four = input.byte() & 1;
    wanted.addresses.push_back(four ? "192.0.2.1" : "fe80::1");
    wanted.subnets.push_back(four ? "255.255.0.0" : "64");
  }
  if (any.size() % 2 == 1) wanted.gateways.push_back(any);
  service.set_addresses(any, wanted, asked.expect());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FakeClock clock;
  Asked asked;
  KeyValueExchange service(clock);
  ServiceFuzz fuzz(clock, service, {{5, 0}, {4, 0}, {3, 0}, {1, 0}}, asked,
                   [&](fuzz::Input& input) { ask(service, asked, input); });
  fuzz.run({data, size});
  fuzz::check(service.known().empty());
  return 0;
}
