// SPDX-License-Identifier: Apache-2.0
#include "worker/image_file.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <string_view>

namespace bulkhead::worker {
namespace {

using testing::ElementsAre;

engine::FileDescriptor file_of(std::string_view text) {
  engine::FileDescriptor file(memfd_create("image", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  return file;
}

TEST(ImageFile, PartsAreReadFromTheFile) {
  const auto file = file_of("a kernel");
  const auto image = ImageFile::map(file, "the kernel");
  ASSERT_TRUE(image.has_value());
  std::array<std::uint8_t, 3> to{};
  ASSERT_TRUE(image->read(image->bytes().subspan(2, 3), to).has_value());
  EXPECT_THAT(to, ElementsAre('k', 'e', 'r'));
}

TEST(ImageFile, KnowsWhatItHolds) {
  const auto file = file_of("kernel"), other_file = file_of("initrd");
  const auto image = ImageFile::map(file, "the kernel"), other = ImageFile::map(other_file, "the initrd");
  EXPECT_TRUE(image->holds(image->bytes().subspan(5)));
  EXPECT_FALSE(image->holds(other->bytes()));
  EXPECT_FALSE(ImageFile().holds(image->bytes()));
}

TEST(ImageFile, AFileThatBecomesShorterIsAnError) {
  const auto file = file_of("a kernel");
  const auto image = ImageFile::map(file, "the kernel");
  ASSERT_EQ(ftruncate(file.get(), 4), 0);
  std::array<std::uint8_t, 8> to{};
  const auto read = image->read(image->bytes(), to);
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().message(), "it has become shorter while it was read");
}

}  // namespace
}  // namespace bulkhead::worker
