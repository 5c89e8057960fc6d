// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

/// The frames that a VP's VpHardware lies in, to be given back to the pool with it.
class HardwareFrames {
 public:
  static constexpr std::size_t kMaximum = 8;

  void add(Frame frame) { frames_[count_++] = frame; }
  std::span<const Frame> all() const { return std::span(frames_).first(count_); }

 private:
  std::array<Frame, kMaximum> frames_{};
  std::size_t count_ = 0;
};

}  // namespace bulkhead::hypervisor
