// SPDX-License-Identifier: Apache-2.0
// What other programs make of our images, and we of theirs.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "disk/file/recording_file.hpp"
#include "disk/nbd/server.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/convert.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/host_directory.hpp"

namespace bulkhead::disk {
namespace {

const char* text_of(std::span<const std::byte> bytes) {
  return static_cast<const char*>(static_cast<const void*>(bytes.data()));
}

NewImage target(const std::string& path, Kind kind, std::uint32_t block = 0) {
  NewImage image;
  image.path = path;
  image.kind = kind;
  image.block = block;
  return image;
}

class Interchange : public HostDirectory {
 protected:
  /// The content that the tests move about, as a raw file.
  std::vector<std::byte> make_raw(const std::string& name, std::uint64_t size) {
    std::vector<std::byte> bytes(size);
    for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{0, 70000 / 512 * 512},
                                         {size / 2 - 1024, 3 * kMiB},
                                         {size - 512, 512}}) {
      std::ranges::copy(pattern(length, offset), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    std::ofstream(path(name), std::ios::binary).write(text_of(bytes), static_cast<std::streamsize>(size));
    return bytes;
  }

  /// The first `size` bytes of a file in memory as a file of the host.
  void dump(const std::string& name, File& file, std::uint64_t size) {
    std::ofstream out(path(name), std::ios::binary | std::ios::trunc);
    std::vector<std::byte> bytes(kMiB);
    for (std::uint64_t at = 0; at < size; at += bytes.size()) {
      bytes.resize(std::min(kMiB, size - at));
      ASSERT_TRUE(succeeds(now(read_bytes(file, at, bytes))));
      out.write(text_of(bytes), static_cast<std::streamsize>(bytes.size()));
    }
  }

  /// base <- middle <- top, each with something of its own; what top shows is in top.img.
  void make_chain(const std::string& ending, const std::string& raw) {
    convert_to(raw, target("base" + ending, Kind::dynamic));
    for (const auto& [name, parent] : {std::pair{"middle", "base"}, std::pair{"top", "middle"}}) {
      auto child = target(path(name + ending), Kind::differencing);
      child.parent = path(parent + ending);
      ASSERT_TRUE(succeeds(wait(create_image(*store_, child))));
      auto disk = open(name + ending, ImageStore::Access::write);
      const auto at = std::string(name) == "top" ? 3 * kMiB - 512 : kMiB + 1024;
      ASSERT_TRUE(succeeds(wait(write_bytes(*disk, at, pattern(3 * kMiB + 512, at)))));
      ASSERT_TRUE(succeeds(wait(disk->zero(at + kMiB, 64 * kKiB))));
      ASSERT_TRUE(succeeds(wait(disk->close())));
    }
    const auto bytes = content_of("top" + ending);
    std::ofstream(path("top.img"), std::ios::binary).write(text_of(bytes), static_cast<std::streamsize>(bytes.size()));
  }

  /// An image and its parents, the image first.
  void expect_libvhdi_agrees(const std::vector<std::string>& chain, const std::string& raw) {
    std::ofstream(path("read.py")) << "import pyvhdi, sys\n"
                                      "files = [pyvhdi.file() for _ in sys.argv[2:]]\n"
                                      "for file, name in zip(files, sys.argv[2:]): file.open(name)\n"
                                      "for child, parent in zip(files, files[1:]): child.set_parent(parent)\n"
                                      "size = files[0].get_media_size()\n"
                                      "with open(sys.argv[1], 'wb') as out:\n"
                                      "    while files[0].get_offset() < size: out.write(files[0].read(1 << 20))\n";
    EXPECT_TRUE(
        runs(fmt::format("/usr/bin/python3 read.py libvhdi.img {} && cmp libvhdi.img {}", fmt::join(chain, " "), raw)))
        << chain.front();
    EXPECT_TRUE(runs("vhdiinfo " + chain.front()));
  }

  void convert_to(const std::string& from, NewImage target) {
    Conversion conversion;
    conversion.source = path(from);
    target.path = path(target.path);
    conversion.target = std::move(target);
    ASSERT_TRUE(succeeds(wait(convert(*store_, std::move(conversion)))));
  }

  void expect_qemu_agrees(const std::string& format, const std::string& image, const std::string& raw) {
    EXPECT_TRUE(runs(fmt::format("qemu-img compare -f {} -F raw {} {}", format, image, raw)));
    const auto size = std::filesystem::file_size(path(raw));
    const auto info = shell("qemu-img info --output=json -f " + format + " " + image);
    EXPECT_NE(info.text.find(fmt::format("\"virtual-size\": {},", size)), std::string::npos) << info.text;
  }
};

TEST_F(Interchange, QemuReadsOurVhdx) {
  make_raw("raw.img", 40 * kMiB);
  int number = 0;
  for (const auto kind : {Kind::fixed, Kind::dynamic}) {
    for (const std::uint64_t block : {1 * kMiB, 32 * kMiB, 256 * kMiB}) {
      const auto name = fmt::format("{}.vhdx", number++);
      convert_to("raw.img", target(name, kind, static_cast<std::uint32_t>(block)));
      EXPECT_TRUE(runs("qemu-img check -f vhdx " + name)) << block;
      expect_qemu_agrees("vhdx", name, "raw.img");
      EXPECT_TRUE(runs("vhdiinfo " + name));
    }
  }
}

TEST_F(Interchange, QemuReadsOurVhd) {
  make_raw("raw.img", 40 * kMiB);
  for (const auto kind : {Kind::fixed, Kind::dynamic}) {
    const auto name = fmt::format("{}.vhd", name_of(kind));
    convert_to("raw.img", target(name, kind));
    expect_qemu_agrees("vpc", name, "raw.img");
    EXPECT_TRUE(runs("vhdiinfo " + name));
  }
}

TEST_F(Interchange, WeReadQemusImages) {
  const auto bytes = make_raw("raw.img", 40 * kMiB);
  for (const std::string options :
       {"-O vhdx -o subformat=dynamic,block_size=1M", "-O vhdx -o subformat=fixed", "-O vhdx",
        "-O vpc -o subformat=dynamic,force_size=on", "-O vpc -o subformat=fixed,force_size=on"}) {
    const std::string name = options.find("vhdx") != std::string::npos ? "qemu.vhdx" : "qemu.vhd";
    ASSERT_TRUE(runs("rm -f " + name + " && qemu-img convert -f raw " + options + " raw.img " + name));
    EXPECT_EQ(content_of(name), bytes) << options;
    const auto report = wait(check_image(*store_, path(name), {}, Repairing::no));
    ASSERT_TRUE(succeeds(report));
    EXPECT_TRUE(report->clean()) << options;
  }
}

/// A workload in memory, cut off at many places: what QEMU makes of each file is what we make of it.
TEST_F(Interchange, QemuReadsWhatAPowerCutLeaves) {
  for (const std::string name : {"disk.vhdx", "disk.vhd"}) {
    MemoryFile file(name);
    const auto size = 6 * kMiB;
    const bool vhdx = format_of_name(name) == Format::vhdx;
    ASSERT_TRUE(succeeds(vhdx ? now(vhdx::create(file, {.size = size, .block_size = 1 << 20}))
                              : now(vhd::create(file, {.size = size, .block_size = 512 << 10}))));
    const CrashStates::Content start{file.bytes(), file.size()};
    Recording recording;
    const auto open_file = [vhdx](File& opened) -> std::unique_ptr<Disk> {
      auto borrowed = std::make_unique<BorrowedFile>(opened);
      if (vhdx) {
        return std::move(*now(vhdx::VhdxDisk::open(std::move(borrowed))));
      }
      return std::move(*now(vhd::VhdDisk::open(std::move(borrowed))));
    };
    RecordingFile recorder(recording, 0, file);
    auto disk = open_file(recorder);
    for (const auto& [offset, length] : {std::pair{kMiB - 1024, 3 * kMiB}, std::pair{5 * kMiB, kMiB}}) {
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, offset, pattern(length, offset)))));
      ASSERT_TRUE(succeeds(now(disk->zero(offset, 4096))));
      ASSERT_TRUE(succeeds(now(disk->flush())));
    }
    const CrashStates states({start}, recording.operations(), {.exhaustive = 1, .samples = 1});
    std::uint64_t number = 0;
    const auto tried = states.each([&](const CrashStates::State& state) {
      if (number++ % 4 != 0) {  // a program is started for each
        return true;
      }
      MemoryFile left(name, state.files[0].bytes, state.files[0].size);
      dump(name, left, left.size());
      auto ours = open_file(left);
      // The log says how long the file has to be. QEMU makes it so only where that is not a whole number of MiB, which it always is.
      std::filesystem::resize_file(path(name), left.size());
      std::ofstream(path("ours.img"), std::ios::binary).write(text_of(content(*ours)), static_cast<long>(size));
      EXPECT_TRUE(runs(vhdx ? "qemu-img check -q -r all -f vhdx disk.vhdx" : "true")) << state.description;
      expect_qemu_agrees(vhdx ? "vhdx" : "vpc", name, "ours.img");
      return !HasFailure();
    });
    EXPECT_GT(tried, 20u);
  }
}

/// QEMU writes a log too. Here it loses its disk after that and before the table, which it keeps at 2 MiB; what we replay,
/// in memory and in the file, is what QEMU itself does.
TEST_F(Interchange, WeReplayTheLogThatQemuLeft) {
  ASSERT_TRUE(runs("qemu-img create -q -f vhdx -o block_size=1M disk.vhdx 64M"));
  shell(R"(qemu-io 'json:{"driver": "vhdx", "file": {"driver": "blkdebug", "image": {"driver": "file",)"
        R"( "filename": "disk.vhdx"}, "inject-error": [{"event": "pwritev", "iotype": "write", "sector": 4096}]}}')"
        R"( -c 'write -P 7 3M 1M' -c abort)");
  ASSERT_TRUE(runs("cp disk.vhdx qemu.vhdx && qemu-img check -q -r all -f vhdx qemu.vhdx"));
  const auto start = wait(check_image(*store_, path("disk.vhdx"), {}, Repairing::no));
  ASSERT_TRUE(succeeds(start));
  ASSERT_EQ(start->findings.size(), 1u);
  EXPECT_NE(start->findings[0].text.find("its log was replayed"), std::string::npos);
  EXPECT_EQ(start->allocated, 1u);
  std::vector<std::byte> expected(64 * kMiB);
  std::fill_n(expected.begin() + 3 * kMiB, kMiB, std::byte{7});
  EXPECT_EQ(content_of("disk.vhdx"), expected);
  EXPECT_EQ(content_of("qemu.vhdx"), expected);
  auto disk = open("disk.vhdx", ImageStore::Access::write);
  ASSERT_TRUE(succeeds(wait(disk->close())));
  disk.reset();
  EXPECT_EQ(content_of("disk.vhdx"), expected);
  EXPECT_TRUE(runs("qemu-img check -f vhdx disk.vhdx && qemu-img compare -f vhdx disk.vhdx qemu.vhdx"));
}

TEST_F(Interchange, OthersReadADiskOf64TerabytesAndItsEnd) {
  constexpr auto kSize = 64 * kTiB;
  for (const std::uint32_t sector : {512, 4096}) {
    const auto name = fmt::format("{}.vhdx", sector);
    auto image = target(path(name), Kind::dynamic, 32 << 20);
    image.size = kSize;
    image.logical_sector = sector;
    ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
    const auto bytes = std::vector<std::byte>(kMiB, std::byte{5});
    auto disk = open(name, ImageStore::Access::write);
    ASSERT_TRUE(succeeds(wait(write_bytes(*disk, kSize - kMiB, bytes))));
    ASSERT_TRUE(succeeds(wait(disk->zero(0, kTiB))));
    ASSERT_TRUE(succeeds(wait(disk->close())));
    disk.reset();
    EXPECT_LT(std::filesystem::file_size(path(name)), 64 * kMiB);
    EXPECT_NE(shell("vhdiinfo " + name).text.find(fmt::format("({} bytes)", kSize)), std::string::npos);
    EXPECT_FALSE(wait(resize_image(*store_, path(name), {}, kSize + sector)));
  }
  const auto read = shell("qemu-io -r -f vhdx -c 'read -P 5 70368743129088 1M' -c 'read -P 0 0 1M' 512.vhdx");
  EXPECT_EQ(read.status, 0) << read.text;
  EXPECT_EQ(read.text.find("failed"), std::string::npos) << read.text;
}

/// Space that a disk does not use is not taken, on the way through formats neither; what it discards is given back.
TEST_F(Interchange, SparseStaysSparseAndDiscardGivesSpaceBack) {
  auto image = target(path("disk.vhdx"), Kind::dynamic, 1 << 20);
  image.size = 300 * kGiB;
  ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
  auto disk = open("disk.vhdx", ImageStore::Access::write);
  ASSERT_TRUE(succeeds(wait(write_bytes(*disk, 100 * kGiB, pattern(16 * kMiB, 1)))));
  ASSERT_TRUE(succeeds(wait(disk->close())));
  disk.reset();
  const auto taken = [this](const std::string& name) {
    return std::stoull(shell("stat -c %b " + name).text) * 512;  // of the file system
  };
  for (const std::string name : {"disk.raw", "disk.vhd", "other.vhdx"}) {
    convert_to("disk.vhdx", target(name, Kind::dynamic));
    EXPECT_LT(taken(name), 32 * kMiB) << name;
  }
  convert_to("disk.vhd", target("again.raw", Kind::dynamic));
  EXPECT_LT(taken("again.raw"), 32 * kMiB);
  for (const std::string name : {"disk.vhdx", "disk.raw", "disk.vhd"}) {
    const auto before = taken(name);
    disk = open(name, ImageStore::Access::write);
    ASSERT_TRUE(succeeds(wait(disk->discard(100 * kGiB, 16 * kMiB))));
    ASSERT_TRUE(succeeds(wait(disk->flush())));
    ASSERT_TRUE(succeeds(wait(disk->close())));
    disk.reset();
    EXPECT_LT(taken(name) + 12 * kMiB, before) << name;
  }
}

TEST_F(Interchange, OthersReadWhatWeMergedAndFlattened) {
  make_raw("raw.img", 40 * kMiB);
  for (const std::string ending : {".vhdx", ".vhd"}) {
    const std::string format = ending == ".vhd" ? "vpc" : "vhdx";
    make_chain(ending, "raw.img");
    ASSERT_TRUE(runs("cp top" + ending + " flat" + ending));
    ASSERT_TRUE(succeeds(wait(flatten_image(*store_, path("flat" + ending), {}, {}))));
    ASSERT_TRUE(succeeds(wait(merge_image(*store_, path("top" + ending), {}, MergedChild::remove, {}))));
    ASSERT_TRUE(succeeds(wait(merge_image(*store_, path("middle" + ending), {}, MergedChild::remove, {}))));
    for (const auto& name : {"flat" + ending, "base" + ending}) {
      expect_qemu_agrees(format, name, "top.img");
      expect_libvhdi_agrees({name}, "top.img");
    }
    EXPECT_TRUE(
        runs(format == "vhdx" ? "qemu-img check -f vhdx flat.vhdx && qemu-img check -f vhdx base.vhdx" : "true"));
  }
}

TEST_F(Interchange, QemuReadsWhatWeResizedAndCompacted) {
  auto bytes = make_raw("raw.img", 40 * kMiB);
  for (const std::string name : {"disk.vhdx", "disk.vhd"}) {
    convert_to("raw.img", target(name, Kind::dynamic));
    ASSERT_TRUE(succeeds(wait(resize_image(*store_, path(name), {}, kGiB))));
    ASSERT_TRUE(succeeds(wait(compact_image(*store_, path(name), {}, {}))));
    const std::string format = name == "disk.vhd" ? "vpc" : "vhdx";
    EXPECT_TRUE(runs("cp raw.img longer.img && truncate -s 1G longer.img"));
    expect_qemu_agrees(format, name, "longer.img");
    EXPECT_TRUE(runs("vhdiinfo " + name));
  }
}

TEST_F(Interchange, LibvhdiReadsOurImagesOfEveryKind) {
  make_raw("raw.img", 40 * kMiB);
  for (const std::string ending : {".vhd", ".vhdx"}) {
    for (const auto kind : {Kind::fixed, Kind::dynamic}) {
      const auto name = name_of(kind) + ending;
      convert_to("raw.img", target(name, kind));
      expect_libvhdi_agrees({name}, "raw.img");
    }
    make_chain(ending, "raw.img");
    expect_libvhdi_agrees({"top" + ending, "middle" + ending, "base" + ending}, "top.img");
    const auto info = shell("vhdiinfo middle" + ending);
    EXPECT_EQ(info.status, 0) << info.text;
    EXPECT_NE(info.text.find("Differential"), std::string::npos) << info.text;
    EXPECT_NE(info.text.find("base" + ending), std::string::npos) << info.text;
  }
}

TEST_F(Interchange, OthersReadOurVhdxOfLargeSectors) {
  make_raw("raw.img", 40 * kMiB);
  auto image = target("large.vhdx", Kind::dynamic);
  image.logical_sector = 4096;
  convert_to("raw.img", image);
  expect_libvhdi_agrees({"large.vhdx"}, "raw.img");
}

/// A server with a ring and a thread of its own.
class Nbd : public Interchange {
 protected:
  void serve(const std::string& name, ImageStore::Access access, const std::function<void()>& client) {
    auto listener = nbd::Listener::on_unix_socket(path("socket"));
    ASSERT_TRUE(succeeds(listener));
    std::thread server([this, &name, access, &listener] {
      auto ring = Ring::create();
      HostStore store(**ring);
      OpenOptions options;
      options.access = access;
      auto disk = run(open_disk(store, path(name), options), [&] { (*ring)->wait(); });
      EXPECT_TRUE(succeeds(disk));
      nbd::Server lending(**ring, **disk, std::move(*listener));
      EXPECT_TRUE(succeeds(run(lending.serve(nbd::Server::Until::last_client_left), [&] { (*ring)->wait(); })));
      EXPECT_TRUE(succeeds(run((*disk)->close(), [&] { (*ring)->wait(); })));
    });
    client();
    server.join();
  }
  const std::string uri_ = "'nbd+unix:///?socket=socket'";
};

TEST_F(Nbd, AClientReadsTheDisk) {
  make_raw("raw.img", 40 * kMiB);
  convert_to("raw.img", target("disk.vhdx", Kind::dynamic));
  serve("disk.vhdx", ImageStore::Access::read, [&] { EXPECT_TRUE(runs("nbdcopy " + uri_ + " copy.img")); });
  EXPECT_TRUE(runs("cmp raw.img copy.img"));
}

TEST_F(Nbd, AClientWritesTheDisk) {
  const auto bytes = make_raw("raw.img", 40 * kMiB);
  auto image = target(path("disk.vhdx"), Kind::dynamic);
  image.size = bytes.size();
  ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
  serve("disk.vhdx", ImageStore::Access::write, [&] { EXPECT_TRUE(runs("nbdcopy --flush raw.img " + uri_)); });
  EXPECT_EQ(content_of("disk.vhdx"), bytes);
}

TEST_F(Nbd, ASocketThatAKilledServerLeftIsNoHindrance) {
  {
    auto left = nbd::Listener::on_unix_socket(path("socket"));
    ASSERT_TRUE(succeeds(left));
    EXPECT_FALSE(nbd::Listener::on_unix_socket(path("socket")));  // somebody listens there
    ASSERT_TRUE(runs("mv socket kept"));
  }
  ASSERT_TRUE(runs("mv kept socket"));
  EXPECT_TRUE(succeeds(nbd::Listener::on_unix_socket(path("socket"))));
  std::ofstream(path("file")) << "no socket";
  EXPECT_FALSE(nbd::Listener::on_unix_socket(path("file")));
  EXPECT_TRUE(std::filesystem::exists(path("file")));
}

TEST_F(Nbd, AReadOnlyDiskIsSaidToBeSo) {
  make_raw("raw.img", 40 * kMiB);
  serve("raw.img", ImageStore::Access::read, [&] {
    const auto info = shell("nbdinfo " + uri_);
    EXPECT_NE(info.text.find("is_read_only: true"), std::string::npos) << info.text;
  });
}

}  // namespace
}  // namespace bulkhead::disk
