// SPDX-License-Identifier: Apache-2.0
// What other programs make of our images, and we of theirs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "disk/nbd/server.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/convert.hpp"
#include "tests/disk/host_directory.hpp"

namespace bulkhead::disk {
namespace {

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
    std::ofstream(path(name), std::ios::binary)
        .write(static_cast<const char*>(static_cast<const void*>(bytes.data())), static_cast<std::streamsize>(size));
    return bytes;
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

NewImage target(const std::string& path, Kind kind, std::uint32_t block = 0) {
  NewImage image;
  image.path = path;
  image.kind = kind;
  image.block = block;
  return image;
}

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

TEST_F(Interchange, QemuReadsWhatAPowerCutLeaves) {
  const auto bytes = make_raw("raw.img", 40 * kMiB);
  auto image = target(path("disk.vhdx"), Kind::dynamic, static_cast<std::uint32_t>(kMiB));
  image.size = bytes.size();
  ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
  {
    auto disk = open("disk.vhdx", ImageStore::Access::write);
    for (std::size_t at = 0; at < bytes.size(); at += kMiB) {
      ASSERT_TRUE(succeeds(wait(write_bytes(*disk, at, std::span(bytes).subspan(at, kMiB)))));
      ASSERT_TRUE(succeeds(wait(disk->flush())));
    }
  }  // never closed
  EXPECT_TRUE(runs("cp disk.vhdx copy.vhdx && qemu-img check -r all -f vhdx copy.vhdx"));
  expect_qemu_agrees("vhdx", "copy.vhdx", "raw.img");
  EXPECT_EQ(content_of("disk.vhdx"), bytes);
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

TEST_F(Interchange, LibvhdiReadsOurDifferencingImages) {
  make_raw("raw.img", 40 * kMiB);
  for (const std::string ending : {".vhd", ".vhdx"}) {
    convert_to("raw.img", target("base" + ending, Kind::dynamic));
    auto child = target(path("child" + ending), Kind::differencing);
    child.parent = path("base" + ending);
    ASSERT_TRUE(succeeds(wait(create_image(*store_, child))));
    const auto info = shell("vhdiinfo child" + ending);
    EXPECT_EQ(info.status, 0) << info.text;
    EXPECT_NE(info.text.find("Differential"), std::string::npos) << info.text;
    EXPECT_NE(info.text.find("base" + ending), std::string::npos) << info.text;
  }
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

TEST_F(Nbd, AReadOnlyDiskIsSaidToBeSo) {
  make_raw("raw.img", 40 * kMiB);
  serve("raw.img", ImageStore::Access::read, [&] {
    const auto info = shell("nbdinfo " + uri_);
    EXPECT_NE(info.text.find("is_read_only: true"), std::string::npos) << info.text;
  });
}

}  // namespace
}  // namespace bulkhead::disk
