// SPDX-License-Identifier: Apache-2.0
// Opening and using hostile VHD files.
#include "disk/vhd/vhd_disk.hpp"
#include "tests/disk/fuzz_image.hpp"

namespace bulkhead::disk {
namespace {

using namespace vhd;

void must(const Result<>& result) {
  if (!result) {
    std::abort();
  }
}

MemoryFile make(Kind kind) {
  MemoryFile file("fuzz.vhd");
  CreateOptions options{.size = 4 * kMiB, .kind = kind};
  options.block_size = 512 * kKiB;
  if (kind == Kind::differencing) {
    vhd::ParentLocator locator;
    locator.identity = Guid::random();
    locator.relative_path = ".\\parent.vhd";
    options.parent = locator;
  }
  must(now(create(file, options)));
  auto disk = now(VhdDisk::open(std::make_unique<MemoryFile>("fuzz.vhd", file.bytes(), file.size())));
  if (!disk) {
    std::abort();
  }
  for (std::uint64_t block = 2; block < 4; ++block) {  // a little in each: the image is copied for every input
    must(now(write_bytes(**disk, block * 512 * kKiB, std::vector<std::byte>(4096, std::byte{0x5a}))));
  }
  must(now((*disk)->close()));
  auto& written = dynamic_cast<MemoryFile&>((*disk)->file());
  return MemoryFile("fuzz.vhd", written.bytes(), written.size());
}

template <typename Layout>
void reseal(MemoryFile& file, std::uint64_t offset) {
  Layout layout;
  must(now(read_bytes(file, offset, writable_bytes_of(layout))));
  seal(layout);
  must(now(write_bytes(file, offset, bytes_of(layout))));
}

}  // namespace
}  // namespace bulkhead::disk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bulkhead::disk;
  static const MemoryFile kImages[] = {make(Kind::fixed), make(Kind::dynamic), make(Kind::differencing)};
  Input input({data, size});
  const auto options = input.take(1);
  const auto& image = kImages[options % 3];
  auto file = std::make_unique<MemoryFile>("fuzz.vhd", image.bytes(), image.size());
  const auto footer = file->size() - 512;
  while (!input.empty()) {
    const auto selector = input.take(1);
    const auto within = input.take(2);
    const auto offset = selector % 3 == 0   ? within % 512         // the footer's copy
                        : selector % 3 == 1 ? 512 + within % 2048  // header, BAT, locators
                                            : footer + within % 512;
    const std::size_t length = std::size_t{1} << (selector / 3 % 4);
    const auto value = input.take(length);
    static_cast<void>(now(write_bytes(*file, offset, bytes_of(value).first(length))));
  }
  if ((options & 4) == 0) {
    reseal<vhd::Footer>(*file, footer);
    if (options % 3 != 0) {
      reseal<vhd::Footer>(*file, 0);
      reseal<vhd::DynamicHeader>(*file, 512);
    }
  }
  file->set_writable((options & 8) == 0);
  if (auto disk = now(vhd::VhdDisk::open(std::move(file)))) {
    exercise(**disk);
  }
  return 0;
}
