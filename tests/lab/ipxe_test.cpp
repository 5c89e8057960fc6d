// SPDX-License-Identifier: Apache-2.0
//
// iPXE as Debian has it: a real-mode program with a VMBus driver of its own, started by SeaBIOS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::HasSubstr;

class Ipxe : public OnEachEngine {};
INSTANTIATE_TEST_SUITE_P(Engines, Ipxe, every_engine(), engine_name);

TEST_P(Ipxe, IsStartedByABiosAndConnectsToVmbus) {
  Machine machine(settings());
  machine.must_run("printf '#!ipxe\\necho This is iPXE ${version}\\nsleep 10\\nreboot\\n' >/tmp/script");
  machine.must_run("bulkhead run --engine " + engine() +
                   " --name ipxe --memory 128M --firmware bios --kernel /guests/ipxe.lkrn --initrd /tmp/script --vmbus "
                   "</dev/null >/tmp/output 2>&1 &");
  machine.must_run("until grep -q 'This is iPXE' /tmp/output; do sleep 1; done", Seconds(90));
  EXPECT_THAT(machine.must_run("bulkhead inspect ipxe", Seconds(20)),
              HasSubstr("connection: offers delivered\n    version: 0.13\n"));
  machine.must_run("until grep -q 'bulkhead: ipxe: reset' /tmp/output; do sleep 1; done", Seconds(60));
  EXPECT_THAT(machine.must_run("cat /tmp/output"), HasSubstr("SeaBIOS"));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

}  // namespace
}  // namespace bulkhead::lab
