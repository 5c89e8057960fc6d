// SPDX-License-Identifier: Apache-2.0
#include "engine/native/native_engine.hpp"

#include <fmt/format.h>

#include "engine/native/native_partition.hpp"
#include "engine/native/vid.hpp"

namespace bulkhead::engine::native {
namespace {

class NativeEngine final : public Engine {
 public:
  NativeEngine(std::unique_ptr<Vid> vid, Capabilities capabilities)
      : vid_(std::move(vid)), capabilities_(std::move(capabilities)) {}

  const Capabilities& capabilities() const override { return capabilities_; }

  Result<std::unique_ptr<Partition>> create_partition(const PartitionSettings& settings) override {
    if (settings.vp_count == 0 || settings.vp_count > capabilities_.maximum_vps) {
      return fail(fmt::format("a machine has 1 to {} virtual processors here, not {}", capabilities_.maximum_vps,
                              settings.vp_count));
    }
    return NativePartition::create(*vid_, settings, capabilities_.tsc_frequency);
  }

 private:
  std::unique_ptr<Vid> vid_;
  Capabilities capabilities_;
};

}  // namespace

Result<std::unique_ptr<Engine>> open_engine() {
  auto vid = open_vid(BULKHEAD_DEVICE);
  if (!vid) return std::unexpected(vid.error());
  return engine_over(std::move(*vid));
}

Result<std::unique_ptr<Engine>> engine_over(std::unique_ptr<Vid> vid) {
  const Result<bulkhead_information> information = vid->information();
  if (!information) return std::unexpected(information.error());
  if (information->vid_version != BULKHEAD_VID_VERSION) {
    return fail(fmt::format("the driver has interface version {}, this program needs {}", information->vid_version,
                            BULKHEAD_VID_VERSION));
  }
  if (information->hypervisor.abi_level != HV_BULKHEAD_ABI_LEVEL) {
    return fail(fmt::format("the hypervisor has interface level {}, this program needs {}",
                            information->hypervisor.abi_level, HV_BULKHEAD_ABI_LEVEL));
  }
  Capabilities capabilities{.name = "native",
                            .maximum_vps = information->hypervisor.maximum_vps,
                            .tsc_frequency = information->hypervisor.tsc_frequency,
                            .synic = true,
                            .saved_state = true,
                            .dirty_pages = true,
                            .reference_time = true,
                            .takes_memory = true};
  return std::make_unique<NativeEngine>(std::move(vid), std::move(capabilities));
}

}  // namespace bulkhead::engine::native
