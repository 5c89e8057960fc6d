// SPDX-License-Identifier: Apache-2.0
//
// Command lines for the root's shell that run children, and what they are expected to say.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/lab/machine.hpp"

namespace bulkhead::lab {

/// A stock Linux with lab/child/init.
struct LinuxChild {
  std::string engine = "native";
  std::string kernel = "6.1-cloud";
  unsigned vps = 1;
  std::string mode = "report";
  std::string words = {};    // more for the kernel command line
  std::string options = {};  // more for bulkhead run
};
std::string command_of(const LinuxChild& child);
/// The same with a VMBus, which only the worker itself offers; without `options`.
std::string command_with_vmbus(const LinuxChild& child);

/// One of the images of tests/guests.
struct TinyGuest {
  std::string name;
  unsigned vps = 2;
  std::string words = {};
  std::string options = {};
  std::string engine = "auto";
};
std::string command_of(const TinyGuest& guest);

/// The machine for children on this engine, and what is below its first Linux.
MachineSettings machine_for(const std::string& engine);

/// Tests of what children get from the stack whatever it runs on: each once for each engine, which is its parameter.
class OnEachEngine : public testing::TestWithParam<std::string> {
 protected:
  const std::string& engine() const { return GetParam(); }
  MachineSettings settings() const { return machine_for(engine()); }
};
inline auto every_engine() { return testing::Values("native", "kvm"); }
inline std::string engine_name(const testing::TestParamInfo<std::string>& instance) { return instance.param; }

/// A name for ctest: the text without what is neither letter nor digit.
std::string test_name(std::string text);

}  // namespace bulkhead::lab
