// SPDX-License-Identifier: Apache-2.0
// A DVD drive: discs, and what drives' drivers ask.
#include <gtest/gtest.h>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

const Bytes kTestUnitReady = {0, 0, 0, 0, 0, 0};
const Bytes kEject = {0x1b, 0, 0, 0, 2, 0};
constexpr std::uint32_t kNoMedium = 0x023a00;
constexpr std::uint64_t kDvdSize = std::uint64_t{99 * 60 * 75 + 1} * 2048;

std::unique_ptr<TestDisk> disc(std::uint64_t size = 16 * 2048) { return std::make_unique<TestDisk>(size, 2048); }

class Dvd : public testing::Test {
 protected:
  void SetUp() override {
    auto medium = disc();
    image = medium.get();
    drive = &guest.add_dvd(0, std::move(medium));
    guest.initialize();
    guest.take_announcement();
  }
  Bytes configuration() {
    const auto answer = guest.read({0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0}, 256);
    return guest.data(answer->packet.scsi.transfer_length);
  }
  Bytes media_event() {
    const auto answer = guest.read({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0}, 8);
    return guest.data(answer->packet.scsi.transfer_length);
  }

  StorageGuest guest;
  DvdUnit* drive = nullptr;
  TestDisk* image = nullptr;
};

TEST_F(Dvd, ReadsBlocksOf2048Bytes) {
  image->bytes[3 * 2048] = 0xcd;
  EXPECT_EQ(guest.read(read_10(3, 1), 2048)->packet.scsi.transfer_length, 2048u);
  EXPECT_EQ(guest.data(1)[0], 0xcd);
  EXPECT_EQ(guest.read({0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}, 2048)->srb(), SrbStatus::Success);
  EXPECT_EQ(guest.read(read_10(15, 2), 4096)->sense(), 0x052100u);
  guest.read({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8);
  EXPECT_EQ(guest.data(8), (Bytes{0, 0, 0, 15, 0, 0, 8, 0}));
}

TEST_F(Dvd, IsARemovableDriveThatCannotBeWritten) {
  guest.read({0x12, 0, 0, 0, 36, 0}, 36);
  EXPECT_EQ(guest.data(2)[0], 5);
  EXPECT_EQ(guest.data(2)[1] & 0x80, 0x80);
  EXPECT_EQ(guest.write(write_10(0, 1), Bytes(2048))->sense(), 0x052000u);
}

TEST_F(Dvd, AnEjectedDiscIsGoneUnlessTheGuestPreventsIt) {
  guest.execute({0x1e, 0, 0, 0, 1, 0});
  EXPECT_EQ(guest.execute(kEject)->sense(), 0x055302u);
  guest.execute({0x1e, 0, 0, 0, 0, 0});
  EXPECT_EQ(guest.execute(kEject)->srb(), SrbStatus::Success);
  EXPECT_EQ(guest.execute(kTestUnitReady)->sense(), kNoMedium);
  EXPECT_EQ(guest.read(read_10(0, 1), 2048)->sense(), kNoMedium);
}

TEST_F(Dvd, ADiscThatIsEjectedInTheMidstOfAReadIsReadToTheEnd) {
  image->holds = true;
  image->bytes[0] = 0x11;
  guest.send(read_10(0, 1), DataDirection::FromDevice, 2048);
  TestDisk* ejected = image;
  EXPECT_EQ(guest.execute(kEject)->srb(), SrbStatus::Success);
  ejected->release_one();
  guest.host().run();
  EXPECT_EQ(guest.take_answer()->srb(), SrbStatus::Success);
  EXPECT_EQ(guest.data(1)[0], 0x11);
}

TEST_F(Dvd, ANewDiscIsAnEventAndAUnitAttention) {
  drive->eject();
  EXPECT_EQ(media_event(), (Bytes{0, 6, 4, 0x10, 3, 0, 0, 0})) << "removed";
  EXPECT_EQ(media_event(), (Bytes{0, 6, 4, 0x10, 0, 0, 0, 0})) << "told once";
  ASSERT_TRUE(drive->insert(disc()));
  EXPECT_EQ(drive->insert(disc()).error().message(), "there is a disc in the drive");
  EXPECT_EQ(media_event(), (Bytes{0, 6, 4, 0x10, 2, 2, 0, 0})) << "a new one";
  EXPECT_EQ(guest.execute(kTestUnitReady)->sense(), 0x062800u);
  EXPECT_EQ(guest.execute(kTestUnitReady)->srb(), SrbStatus::Success);
}

TEST_F(Dvd, ItsProfileIsThatOfTheDisc) {
  EXPECT_EQ(configuration()[7], 0x08) << "a CD";
  drive->eject();
  EXPECT_EQ(configuration()[7], 0);
  auto large = disc(2048);
  large->changeable_properties().size = kDvdSize;
  ASSERT_TRUE(drive->insert(std::move(large)));
  guest.execute(kTestUnitReady);
  EXPECT_EQ(configuration()[7], 0x10) << "a DVD";
  EXPECT_EQ(guest.read({0xad, 0, 0, 0, 0, 0, 0, 0, 8, 4, 0, 0}, 2052)->packet.scsi.transfer_length, 2052u);
}

TEST_F(Dvd, TheTableOfContentsHasOneTrack) {
  const auto blocks = guest.read({0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0}, 255);
  EXPECT_EQ(guest.data(blocks->packet.scsi.transfer_length),
            (Bytes{0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 16}));
  const auto minutes = guest.read({0x43, 2, 0, 0, 0, 0, 0xaa, 0, 255, 0}, 255);
  EXPECT_EQ(guest.data(minutes->packet.scsi.transfer_length), (Bytes{0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 2, 16}));
  EXPECT_EQ(guest.read({0x43, 0, 1, 0, 0, 0, 0, 0, 255, 0}, 255)->packet.scsi.transfer_length, 12u);
}

TEST_F(Dvd, ItsOneTrackIsFoundByBlockTrackAndSession) {
  for (const Bytes& which : {Bytes{0, 0, 0, 0, 15}, Bytes{1, 0, 0, 0, 1}, Bytes{2, 0, 0, 0, 1}}) {
    Bytes command = {0x52};
    command.insert(command.end(), which.begin(), which.end());
    command.insert(command.end(), {0, 0, 36, 0});
    EXPECT_EQ(guest.read(command, 36)->packet.scsi.transfer_length, 36u);
    Bytes expected(36);
    expected[1] = 34;
    expected[2] = expected[3] = 1;
    expected[5] = 4;    // a data track
    expected[6] = 1;    // of mode 1
    expected[27] = 16;  // blocks
    EXPECT_EQ(guest.data(36), expected);
  }
  EXPECT_EQ(guest.read({0x52, 0, 0, 0, 0, 16, 0, 0, 36, 0}, 36)->sense(), 0x052400u);
  EXPECT_EQ(guest.read({0x52, 1, 0, 0, 0, 2, 0, 0, 36, 0}, 36)->sense(), 0x052400u);
  EXPECT_EQ(guest.read({0x52, 3, 0, 0, 0, 1, 0, 0, 36, 0}, 36)->sense(), 0x052400u);
  drive->eject();
  EXPECT_EQ(guest.read({0x52, 1, 0, 0, 0, 1, 0, 0, 36, 0}, 36)->sense(), kNoMedium);
}

TEST_F(Dvd, HasTheCapabilitiesPage) {
  EXPECT_EQ(guest.read({0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128, 0}, 128)->packet.scsi.transfer_length, 8u + 22);
}

}  // namespace
}  // namespace bulkhead::vsp::storage
