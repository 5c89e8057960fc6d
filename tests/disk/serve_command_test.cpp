// SPDX-License-Identifier: Apache-2.0
// `bulkhead disk serve` and clients: those of QEMU and libnbd, and some that mean no good.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "disk/byte_order.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/create.hpp"
#include "tests/disk/host_directory.hpp"

namespace bulkhead::disk {
namespace {

class ServeCommand : public HostDirectory {
 protected:
  void make(const std::string& name, std::uint64_t size, std::uint32_t sector = 0) {
    NewImage image;
    image.path = path(name);
    image.size = size;
    image.block = 1 << 20;
    image.logical_sector = sector;
    ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
  }
  /// Runs `client` beside a server of the image, which ends in order afterwards.
  Output serve(const std::string& image, const std::string& client) {
    return shell(
        fmt::format("{} disk serve {} --socket s >/dev/null & pid=$!; until [ -S s ]; do sleep 0.02; done; "
                    "{}; status=$?; kill $pid; wait $pid && exit $status",
                    BULKHEAD_PROGRAM, image, client));
  }
  /// A Python program with a socket `s`, connected to the server, and a `greeting` function for an honest beginning.
  void make_client(const std::string& name, const std::string& body) {
    std::ofstream(path(name)) << "import os, socket, struct, sys\n"
                                 "def connect():\n"
                                 "    s = socket.socket(socket.AF_UNIX); s.connect('s'); s.settimeout(20); return s\n"
                                 "def greeted():\n"
                                 "    s = connect(); s.recv(18, socket.MSG_WAITALL); s.sendall(struct.pack('>I', 3))\n"
                                 "    return s\n"
                                 "def exported():\n"
                                 "    s = greeted(); s.sendall(b'IHAVEOPT' + struct.pack('>II', 1, 0))\n"
                                 "    s.recv(10, socket.MSG_WAITALL); return s\n"
                                 "def request(s, command, offset, length):\n"
                                 "    s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, command, 7, offset, length))\n"
                                 "def status(s): return struct.unpack('>IIQ', s.recv(16, socket.MSG_WAITALL))[1]\n"
                              << body;
  }
  const std::string uri_ = "'nbd+unix:///?socket=s'";
};

TEST_F(ServeCommand, AClientZeroesDiscardsAndFlushes) {
  make("disk.vhdx", 16 * kMiB);
  const auto output = serve("disk.vhdx",
                            "qemu-io -f raw -d unmap -c 'write -P 5 0 8M' -c 'write -z 1M 64k' -c 'discard 4M 2M' "
                            "-c flush -c 'read -P 5 0 1M' -c 'read -P 0 1M 64k' -c 'read -P 0 4M 2M' " +
                                uri_);
  EXPECT_EQ(output.status, 0) << output.text;
  EXPECT_EQ(output.text.find("failed"), std::string::npos) << output.text;
  EXPECT_EQ(output.text.find("bulkhead:"), std::string::npos) << output.text;
  auto disk = open("disk.vhdx");
  ASSERT_TRUE(disk);
  EXPECT_EQ(wait(disk->query(4 * kMiB, 12 * kMiB))->content, Content::hole);  // the blocks were given back
  const auto report = wait(check_image(*store_, path("disk.vhdx"), {}, Repairing::no));
  ASSERT_TRUE(succeeds(report));
  EXPECT_TRUE(report->findings.empty());
}

TEST_F(ServeCommand, SaysHowLargeItsSectorsAre) {
  make("disk.vhdx", 16 * kMiB, 4096);
  const auto output = serve("disk.vhdx", "nbdinfo " + uri_);
  EXPECT_EQ(output.status, 0) << output.text;
  EXPECT_NE(output.text.find("block_size_minimum: 4096"), std::string::npos) << output.text;
}

TEST_F(ServeCommand, ManyRequestsAndSeveralConnectionsAtOnce) {
  make("disk.vhdx", 64 * kMiB);
  std::ofstream file(path("raw.img"), std::ios::binary);
  const auto bytes = pattern(64 * kMiB, 1);
  file.write(static_cast<const char*>(static_cast<const void*>(bytes.data())), static_cast<long>(bytes.size()));
  file.close();
  const auto output =
      serve("disk.vhdx", "nbdcopy --connections=4 --requests=32 --flush raw.img " + uri_ +
                             " && nbdcopy --connections=4 --requests=32 " + uri_ + " copy.img && cmp raw.img copy.img");
  EXPECT_EQ(output.status, 0) << output.text;
  EXPECT_EQ(content_of("disk.vhdx"), bytes);
}

TEST_F(ServeCommand, RequestsOutsideOfTheDiskOrItsSectorsAreRefused) {
  make("disk.vhdx", 16 * kMiB);
  make_client("client.py",
              "s = exported()\n"
              "for command, offset, length in [(0, 16 << 20, 512), (0, 2**64 - 512, 1024), (0, 100, 512),\n"
              "                                (4, 0, 2**32 - 1), (6, 15 << 20, 2 << 20), (9, 0, 512)]:\n"
              "    request(s, command, offset, length)\n"
              "    print(status(s))\n"
              "request(s, 0, 0, 512); print(status(s), len(s.recv(512, socket.MSG_WAITALL)))\n");
  const auto output = serve("disk.vhdx", "/usr/bin/python3 client.py");
  EXPECT_EQ(output.text, "22\n22\n22\n22\n22\n95\n0 512\n");
}

TEST_F(ServeCommand, AHostileClientIsSentAwayAndOthersGoOn) {
  make("disk.vhdx", 16 * kMiB);
  make_client("client.py",
              "def ends(s):\n"
              "    try: return len(s.recv(1 << 16)) == 0\n"
              "    except ConnectionResetError: return True\n"
              "kept = exported()\n"  // one that behaves
              "s = connect(); s.recv(18, socket.MSG_WAITALL); s.sendall(os.urandom(4096)); print(ends(s))\n"
              "s = greeted(); s.sendall(b'IHAVEOPT' + struct.pack('>II', 7, 2**32 - 1)); print(ends(s))\n"
              "s = exported(); s.sendall(b'x' * 28); print(ends(s))\n"                      // no request
              "s = exported(); request(s, 1, 0, 2**32 - 1); print(ends(s))\n"               // too large
              "s = exported(); request(s, 1, 0, 1 << 20); s.sendall(b'half'); s.close()\n"  // goes away
              "idle = [connect() for _ in range(40)]\n"                                     // too many
              "request(kept, 0, 0, 512); print(status(kept), len(kept.recv(512, socket.MSG_WAITALL)))\n"
              "for s in idle: s.close()\n");
  const auto output = serve("disk.vhdx", "/usr/bin/python3 client.py && nbdinfo --size " + uri_);
  EXPECT_EQ(output.status, 0);
  EXPECT_EQ(output.text, fmt::format("True\nTrue\nTrue\nTrue\n0 512\n{}\n", 16 * kMiB));
}

}  // namespace
}  // namespace bulkhead::disk
