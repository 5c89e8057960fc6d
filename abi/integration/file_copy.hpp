// SPDX-License-Identifier: Apache-2.0
//
// File copy (guest interface): one file at a time from the host into the guest, in pieces that are answered one by one.
#pragma once

#include "abi/integration/frame.hpp"

namespace bulkhead::abi::integration {

inline constexpr Guid kFileCopyInterface = Guid::of("34d14be3-dee4-41c8-9ae7-6b174977c192");
inline constexpr Guid kFileCopyInstance = Guid::of("eb765408-105f-49b6-b4aa-c123b64d17d4");

enum class FileCopyOperation : std::uint32_t { Start = 0, Write = 1, Complete = 2, Cancel = 3 };

struct FileCopyFlags {
  static constexpr std::uint32_t kOverwrite = 1;
  static constexpr std::uint32_t kCreatePath = 2;
};

struct FileCopyHeader {
  FileCopyOperation operation;
  Guid service_ids[2];
};
static_assert(sizeof(FileCopyHeader) == 36);

/// UTF-16 units of a name or a folder, the zero at the end included.
inline constexpr std::size_t kFileCopyPathLength = 260;

struct [[gnu::packed]] FileCopyStart {
  FileCopyHeader header;
  std::uint8_t file_name[2 * kFileCopyPathLength];
  std::uint8_t folder[2 * kFileCopyPathLength];
  std::uint32_t flags;
  std::uint64_t size;
};
static_assert(sizeof(FileCopyStart) == 1088);

inline constexpr std::size_t kFileCopyFragmentSize = 6 * 1024;

struct [[gnu::packed]] FileCopyWrite {
  FileCopyHeader header;
  std::uint32_t reserved;
  std::uint64_t offset;
  std::uint32_t size;
  std::uint8_t data[kFileCopyFragmentSize];
};
static_assert(sizeof(FileCopyWrite) == 52 + kFileCopyFragmentSize);

}  // namespace bulkhead::abi::integration
