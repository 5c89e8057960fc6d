// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/file_copy.hpp"

#include <gtest/gtest.h>

#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;
using namespace abi::integration;

class FileCopyTest : public testing::Test, protected FileCopySource {
 protected:
  void want(std::uint64_t offset) override { wanted.push_back(offset); }
  void finished(Result<> result) override {
    ++ends;
    outcome = result ? "done" : result.error().message();
  }

  Bytes content(std::size_t size) const {
    Bytes bytes(size);
    for (std::size_t index = 0; index < size; ++index) bytes[index] = static_cast<std::uint8_t>(index * 7 >> 3);
    return bytes;
  }
  std::string begin(std::uint64_t size, std::string folder = "/root", std::string name = "notes") {
    outcome = "none yet";
    const auto begun = rig.service.copy({.folder = std::move(folder), .name = std::move(name), .size = size}, *this);
    return begun ? "begun" : begun.error().message();
  }
  /// Gives what is wanted, and answers, until neither is wanted. What the guest then has.
  Bytes run(const Bytes& file, std::size_t at_once = 256 * 1024) {
    Bytes written;
    for (bool more = true; more;) {
      more = false;
      if (!wanted.empty()) {
        const std::size_t offset = wanted.front();
        wanted.erase(wanted.begin());
        const auto rest = std::span(file).subspan(offset);
        rig.service.feed(rest.first(std::min(rest.size(), at_once)));
        more = true;
      }
      if (const auto message = rig.guest.receive()) {
        more = true;
        operations.push_back(message->as<FileCopyHeader>().operation);
        if (operations.back() == FileCopyOperation::Write) {
          const auto body = message->as<FileCopyWrite>();
          const std::uint64_t offset = body.offset;
          const std::uint32_t size = body.size;
          EXPECT_EQ(offset, written.size());
          EXPECT_LE(size, 6u * 1024);
          written.insert(written.end(), body.data, body.data + size);
        }
        rig.guest.answer(*message, {}, operations.back() == fails_at ? fails_with : Status::Ok);
      }
    }
    return written;
  }

  std::vector<std::uint64_t> wanted;
  std::vector<FileCopyOperation> operations;
  FileCopyOperation fails_at{99};
  Status fails_with = Status::Ok;
  std::string outcome;
  unsigned ends = 0;
  Rig<FileCopy> rig;
};

TEST_F(FileCopyTest, AFileArrivesAsItIs) {
  rig.guest.connect({1, 1});
  for (const std::size_t size : {1, 6143, 6144, 6145, 300'000}) {
    const Bytes file = content(size);
    ASSERT_EQ(begin(size), "begun");
    EXPECT_EQ(run(file, 10'000), file);
    EXPECT_EQ(outcome, "done");
    EXPECT_EQ(operations.front(), FileCopyOperation::Start);
    EXPECT_EQ(operations.back(), FileCopyOperation::Complete);
    operations.clear();
  }
  EXPECT_EQ(ends, 5u);
}

TEST_F(FileCopyTest, AnEmptyFileArrivesToo) {
  rig.guest.connect({1, 1});
  ASSERT_EQ(begin(0), "begun");
  EXPECT_TRUE(run({}).empty());
  EXPECT_EQ(outcome, "done");
  EXPECT_EQ(operations, (std::vector{FileCopyOperation::Start, FileCopyOperation::Complete}));
}

TEST_F(FileCopyTest, TheGuestIsToldNameFolderSizeAndFlags) {
  rig.guest.connect({1, 1});
  ASSERT_TRUE(rig.service.copy(
      {.folder = "/tmp/ü", .name = "a b", .size = 5'000'000'000, .overwrite = true, .create_folder = true}, *this));
  const auto body = rig.guest.receive()->as<FileCopyStart>();
  const std::uint64_t size = body.size;
  const std::uint32_t flags = body.flags;
  EXPECT_EQ(size, 5'000'000'000u);
  EXPECT_EQ(flags, FileCopyFlags::kOverwrite | FileCopyFlags::kCreatePath);
  EXPECT_EQ(std::memcmp(body.file_name, u"a b", 8), 0);
  EXPECT_EQ(std::memcmp(body.folder, u"/tmp/ü", 14), 0);
}

TEST_F(FileCopyTest, NamesThatCannotBeSentAreRefused) {
  rig.guest.connect({1, 1});
  EXPECT_EQ(begin(1, "/root", ""), "'' is no name of a file");
  EXPECT_EQ(begin(1, "/root", "a/b"), "'a/b' is no name of a file");
  EXPECT_EQ(begin(1, "/root", std::string(260, 'n')), "the file's name has 260 characters; 259 are possible");
  EXPECT_EQ(begin(1, std::string(260, 'f')), "the folder has 260 characters; 259 are possible");
  EXPECT_EQ(begin(1, "/\xff"), "the folder is not UTF-8 text");
  EXPECT_EQ(begin(1), "begun");
  EXPECT_EQ(begin(1), "another file is being copied");
}

TEST_F(FileCopyTest, ARefusalAtTheStartSaysWhy) {
  rig.guest.connect({1, 1});
  fails_at = FileCopyOperation::Start;
  for (const auto& [status, why] :
       {std::pair(Status::FileExists, "the file is there already in the guest"),
        std::pair(Status::DiskFull, "the guest has no room for the file"),
        std::pair(Status::Fail, "the guest could not do it; perhaps its file copy daemon does not run")}) {
    fails_with = status;
    begin(100);
    run(content(100));
    EXPECT_EQ(outcome, why);
  }
}

TEST_F(FileCopyTest, AnErrorInTheMiddleIsCancelledInTheGuest) {
  rig.guest.connect({1, 1});
  fails_at = FileCopyOperation::Write;
  fails_with = Status::DiskFull;
  begin(100'000);
  run(content(100'000));
  EXPECT_EQ(outcome, "the guest has no room for the file");
  EXPECT_EQ(operations, (std::vector{FileCopyOperation::Start, FileCopyOperation::Write, FileCopyOperation::Cancel}));
  EXPECT_EQ(ends, 1u);
  // The next one has its turn.
  fails_at = FileCopyOperation{99};
  EXPECT_EQ(begin(10), "begun");
  EXPECT_EQ(run(content(10)), content(10));
  EXPECT_EQ(outcome, "done");
}

TEST_F(FileCopyTest, ASourceThatCannotBeReadIsCancelledInTheGuest) {
  rig.guest.connect({1, 1});
  begin(100);
  rig.guest.answer(*rig.guest.receive());
  ASSERT_EQ(wanted, std::vector<std::uint64_t>{0});
  rig.service.fail_source(Error("the disk is on fire"));
  EXPECT_EQ(outcome, "the disk is on fire");
  EXPECT_EQ(rig.guest.receive()->as<FileCopyHeader>().operation, FileCopyOperation::Cancel);
}

TEST_F(FileCopyTest, AFileThatShrankIsAnError) {
  rig.guest.connect({1, 1});
  begin(100);
  rig.guest.answer(*rig.guest.receive());
  rig.service.feed({});
  EXPECT_EQ(outcome, "the file is shorter than it was");
}

TEST_F(FileCopyTest, AFileThatGrewIsCopiedAsLongAsItWas) {
  rig.guest.connect({1, 1});
  begin(100);
  EXPECT_EQ(run(content(200)), content(100));
  EXPECT_EQ(outcome, "done");
}

TEST_F(FileCopyTest, ASilentGuestEndsTheCopyAndIsToldToForget) {
  rig.guest.connect({1, 1});
  begin(100);
  ASSERT_TRUE(rig.guest.receive());
  rig.clock.advance(40s);
  EXPECT_EQ(outcome, "the guest does not answer");
  EXPECT_EQ(rig.guest.receive()->as<FileCopyHeader>().operation, FileCopyOperation::Cancel);
}

TEST_F(FileCopyTest, WhoGoesAwayCancels) {
  rig.guest.connect({1, 1});
  begin(100);
  const auto start = rig.guest.receive();
  rig.service.cancel(*this);
  EXPECT_EQ(begin(10), "another file is being copied") << "until the guest has heard of it";
  rig.guest.answer(*start);
  const auto cancel = rig.guest.receive();
  ASSERT_TRUE(cancel);
  EXPECT_EQ(cancel->as<FileCopyHeader>().operation, FileCopyOperation::Cancel);
  rig.guest.answer(*cancel);
  EXPECT_EQ(ends, 0u);
  EXPECT_EQ(begin(10), "begun");
}

TEST_F(FileCopyTest, AGuestThatClosesEndsTheCopy) {
  rig.guest.connect({1, 1});
  begin(100);
  rig.guest.answer(*rig.guest.receive());
  rig.guest.close();
  EXPECT_EQ(outcome, "the guest has closed the file copy service");
  rig.service.feed(content(100));  // what was wanted comes too late, and goes nowhere
  EXPECT_EQ(ends, 1u);
}

}  // namespace
}  // namespace bulkhead::vsp::integration
