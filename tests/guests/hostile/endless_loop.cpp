// SPDX-License-Identifier: Apache-2.0
//
// Never ends, and takes no interrupt; on all processors. Who runs it must be able to stop it.
#include "guest.hpp"
#include "instructions.hpp"
#include "processors.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  const std::uint32_t count = start_processors();
  for (std::uint32_t number = 1; number < count; ++number)
    start_work(number, [] {
      for (;;) asm volatile("cli");
    });
  expect("endless loop");
  for (;;) asm volatile("cli");
}
