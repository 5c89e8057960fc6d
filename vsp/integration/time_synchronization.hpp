// SPDX-License-Identifier: Apache-2.0
//
// Time synchronization. The guest gets a sample of the host's time of day every five seconds, for its own clock's
// discipline, and the order to set its clock
//
//   - when its driver has just come,
//   - when the machine stood still: it was paused, or saved and restored,
//   - when the host's own clock was set.
//
// The last two look alike: the host's time of day and the machine's clock have drifted apart by more than half a second
// since the last message.
#pragma once

#include <optional>

#include "abi/integration/time_synchronization.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

/// The reference time of the partition (TLFS, "Partition Reference Time"), where the engine can tell it.
class ReferenceTime {
 public:
  virtual ~ReferenceTime() = default;
  /// In 100 ns; nothing if there is no partition just now.
  virtual std::optional<std::uint64_t> reference_time() const = 0;
};

class TimeSynchronization final : public Service {
 public:
  /// Without a reference time (null), the versions from 4.0 on are not offered.
  TimeSynchronization(state::Clock& clock, const state::WallClock& wall_clock, const ReferenceTime* reference);

 private:
  void on_ready() override;
  void on_closed() override;
  bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) override;
  void on_silence() override;
  void on_restored() override;
  void inspect_more(state::Inspection& node) const override;

  void tell();

  const state::WallClock& wall_clock_;
  const ReferenceTime* reference_;
  std::unique_ptr<state::Timer> timer_;
  std::optional<state::Nanoseconds>
      ahead_;  // of the machine's clock, as last told; none: the guest's clock is to be set
  std::uint64_t orders_ = 0;
};

}  // namespace bulkhead::vsp::integration
