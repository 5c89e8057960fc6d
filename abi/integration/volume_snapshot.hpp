// SPDX-License-Identifier: Apache-2.0
//
// Volume snapshots (VSS): the host asks the guest to hold writes to its file systems while a checkpoint is taken.
#pragma once

#include "abi/integration/frame.hpp"

namespace bulkhead::abi::integration {

inline constexpr Guid kVolumeSnapshotInterface = Guid::of("35fa2e29-ea23-4236-96ae-3a6ebacba440");
inline constexpr Guid kVolumeSnapshotInstance = Guid::of("2450ee40-33bf-4fbd-892e-9fb06e9214cf");

enum class SnapshotOperation : std::uint8_t {
  Create = 0,
  Delete = 1,
  HotBackup = 2,  // can the guest do this at all?
  GetDirectMapperInformation = 3,
  BackupComplete = 4,
  Freeze = 5,
  Thaw = 6,
  AutoRecover = 7,
};

struct VolumeSnapshot {
  SnapshotOperation operation;
  std::uint8_t reserved[7];
  std::uint32_t flags;  // of the answer to HotBackup
};
static_assert(offsetof(VolumeSnapshot, flags) == 8 && sizeof(VolumeSnapshot) == 12);

}  // namespace bulkhead::abi::integration
