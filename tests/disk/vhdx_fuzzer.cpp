// SPDX-License-Identifier: Apache-2.0
// Opening, recovering and using hostile VHDX files.
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/fuzz_image.hpp"

namespace bulkhead::disk {
namespace {

using namespace vhdx;

void must(const Result<>& result) {
  if (!result) {
    std::abort();
  }
}

/// A differencing image with some content, put away in order or (with a log to replay) not.
MemoryFile make(bool closed, Kind kind) {
  MemoryFile file("fuzz.vhdx");
  CreateOptions options{.size = 8 * kMiB, .kind = kind, .block_size = kMiB};
  if (kind == Kind::differencing) {
    options.parent = ParentLocator{{{"parent_linkage", "{" + Guid::random().text() + "}"}, {"relative_path", "p"}}};
  }
  must(now(create(file, options)));
  auto disk = now(VhdxDisk::open(std::make_unique<MemoryFile>("fuzz.vhdx", file.bytes(), file.size())));
  if (!disk) {
    std::abort();
  }
  for (std::uint64_t block = 0; block < 3; ++block) {  // a little in each: the image is copied for every input
    must(now(write_bytes(**disk, block * kMiB, std::vector<std::byte>(4096, std::byte{0x5a}))));
  }
  must(now((*disk)->flush()));
  if (closed) {
    must(now((*disk)->close()));
  }
  auto& written = dynamic_cast<MemoryFile&>((*disk)->file());
  return MemoryFile("fuzz.vhdx", written.bytes(), written.size());
}

void seal(MemoryFile& file, std::uint64_t offset, std::uint64_t length) {
  std::vector<std::byte> bytes(length);
  must(now(read_bytes(file, offset, bytes)));
  const U32 checksum = checksum_of(bytes);
  must(now(write_bytes(file, offset + 4, bytes_of(checksum))));
}

void seal_all(MemoryFile& file) {
  for (const auto offset : kHeaderOffsets) {
    seal(file, offset, sizeof(Header));
  }
  for (const auto offset : kRegionTableOffsets) {
    seal(file, offset, kRegionTableLength);
  }
  for (std::uint64_t at = kMiB; at < 2 * kMiB; at += kLogSector) {
    LogEntryHeader header;
    must(now(read_bytes(file, at, writable_bytes_of(header))));
    if (header.signature == kLogEntrySignature && header.entry_length <= 2 * kMiB - at && header.entry_length >= 8) {
      seal(file, at, header.entry_length);
    }
  }
}

/// Where the structures of the images that make() makes are.
std::uint64_t place(std::uint64_t selector, std::uint64_t within) {
  switch (selector % 7) {
    case 0: return kHeaderOffsets[0] + within % 80;
    case 1: return kHeaderOffsets[1] + within % 80;
    case 2: return kRegionTableOffsets[0] + within % 128;
    case 3: return kMiB + within % (64 * kKiB);          // the log
    case 4: return 2 * kMiB + within % 512;              // the metadata table
    case 5: return 2 * kMiB + 64 * kKiB + within % 512;  // the metadata
    default: return 3 * kMiB + within % 128;             // the BAT
  }
}

}  // namespace
}  // namespace bulkhead::disk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bulkhead::disk;
  static const MemoryFile kImages[] = {make(true, Kind::dynamic), make(false, Kind::dynamic),
                                       make(true, Kind::differencing), make(false, Kind::differencing)};
  Input input({data, size});
  const auto options = input.take(1);
  const auto& image = kImages[options % 4];
  auto file = std::make_unique<MemoryFile>("fuzz.vhdx", image.bytes(), image.size());
  while (!input.empty()) {
    const auto selector = input.take(1);
    const auto offset = place(selector, input.take(2));
    const std::size_t length = std::size_t{1} << (selector / 7 % 4);
    const auto value = input.take(length);
    static_cast<void>(now(write_bytes(*file, offset, bytes_of(value).first(length))));
  }
  if ((options & 4) == 0) {
    seal_all(*file);
  }
  file->set_writable((options & 8) == 0);
  if (auto disk = now(vhdx::VhdxDisk::open(std::move(file)))) {
    exercise(**disk);
  }
  return 0;
}
