// SPDX-License-Identifier: Apache-2.0
//
// Stock kernels with disks on VMBus: a small child that writes and reads, and a whole Debian that boots from one.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

/// The words that follow `mark` on its line.
std::string after(const std::string& text, const std::string& mark) {
  const auto at = text.find(mark);
  if (at == std::string::npos) return {};
  const auto begin = at + mark.size();
  return text.substr(begin, text.find('\n', begin) - begin);
}

std::string checksum_of(Machine& machine, const std::string& file) {
  const std::string output = machine.must_run("head -c 2097152 " + file + " | sha256sum", Seconds(60));
  return output.substr(0, output.find(' '));
}

class ChildWithDisks : public testing::TestWithParam<std::string> {};

TEST_P(ChildWithDisks, WritesThemAndReadsThemBack) {
  Machine machine(machine_for(GetParam()));
  machine.must_run("truncate -s 64M /tmp/raw.img && bulkhead disk create /tmp/dynamic.vhdx --size 64M");
  machine.must_run(
      "bulkhead disk create /tmp/base.vhdx --size 64M && "
      "bulkhead disk create /tmp/child.vhdx --parent /tmp/base.vhdx");
  machine.must_run("head -c 1048576 /dev/urandom >/tmp/protected.img && head -c 1048576 /dev/urandom >/tmp/disc.iso");
  const Answer answer = machine.run(
      command_of(LinuxChild{.engine = GetParam(),
                            .vps = 2,
                            .mode = "disks",
                            .words = "child.disks=5",
                            .options = "--disk /tmp/raw.img --disk /tmp/dynamic.vhdx --disk /tmp/child.vhdx "
                                       "--disk /tmp/protected.img,read-only --dvd /tmp/disc.iso"}),
      Seconds(400));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, HasSubstr("child: disk 0: 131072 sectors of 512, model Virtual Disk"));
  EXPECT_THAT(answer.output, HasSubstr("child: disks: 5\n"));
  EXPECT_THAT(answer.output, HasSubstr("child: disks: complaints in the kernel's log: none"));
  EXPECT_THAT(answer.output, ContainsRegex("child: disk 3: .*read-only 1"));

  EXPECT_EQ(after(answer.output, "child: disk 0: written, checksum "), checksum_of(machine, "/tmp/raw.img"));
  for (const auto& [name, disk] : {std::pair("dynamic", 1), std::pair("child", 2)}) {
    machine.must_run(fmt::format("bulkhead disk check /tmp/{}.vhdx", name));
    machine.must_run(fmt::format("bulkhead disk convert /tmp/{0}.vhdx /tmp/{0}.raw", name));
    EXPECT_EQ(after(answer.output, fmt::format("child: disk {}: written, checksum ", disk)),
              checksum_of(machine, fmt::format("/tmp/{}.raw", name)));
  }
  EXPECT_EQ(after(answer.output, "child: disk 4: checksum "), checksum_of(machine, "/tmp/disc.iso"));
  EXPECT_EQ(machine.kernel_complaints(), "");
}

TEST_P(ChildWithDisks, GetsAndLosesThemWhileItRuns) {
  Machine machine(machine_for(GetParam()));
  machine.must_run("truncate -s 32M /tmp/disk.raw");
  const Answer answer = machine.run(fmt::format("hot-disks {} /child/6.1-cloud/vmlinuz /child/6.1-cloud/initrd "
                                                "'console=ttyS0 quiet child.mode=hot-disks' /tmp/disk.raw",
                                                GetParam()),
                                    Seconds(400));
  EXPECT_EQ(answer.status, 0) << answer.output;
  EXPECT_THAT(answer.output, HasSubstr("hot-disks: attached as 0"));
  EXPECT_THAT(answer.output, HasSubstr("hot-disks: the image is closed"));
  EXPECT_THAT(answer.output, HasSubstr("child: disk 3 came and went"));
}

TEST_P(ChildWithDisks, PauseWithAFullHostAndLoseNothing) {
  Machine machine(machine_for(GetParam()));
  machine.must_run("mkdir /small && mount -t tmpfs -o size=3M tmpfs /small && truncate -s 64M /small/disk.raw");
  machine.must_run(command_of(LinuxChild{
                       .engine = GetParam(), .mode = "disks", .options = "--disk /small/disk.raw >/tmp/output 2>&1"}) +
                   " &");
  machine.must_run("until grep 'paused: the host has no room' /tmp/output; do sleep 1; done", Seconds(300));
  EXPECT_THAT(machine.run("grep 'child: disks:' /tmp/output").output, "");
  machine.must_run("mount -o remount,size=128M /small && kill -USR1 $(pidof bulkhead-vmwp)");
  machine.must_run("until grep 'powered off' /tmp/output; do sleep 1; done", Seconds(300));
  const std::string output = machine.must_run("cat /tmp/output");
  EXPECT_THAT(output, HasSubstr("bulkhead: resumed"));
  EXPECT_THAT(output, HasSubstr("child: disks: complaints in the kernel's log: none"));
  EXPECT_EQ(after(output, "child: disk 0: written, checksum "), checksum_of(machine, "/small/disk.raw"));
}

INSTANTIATE_TEST_SUITE_P(Engines, ChildWithDisks, testing::Values("native", "kvm"),
                         [](const auto& instance) { return instance.param; });

struct DebianCase {
  std::string engine;
  std::string kernel;
};

/// Debian 12 as lab/rootfs makes it, booted from a disk on VMBus, with its console on ours.
class Debian : public testing::TestWithParam<DebianCase> {
 protected:
  void start() {
    MachineSettings settings = machine_for(GetParam().engine);
    settings.disk = "debian.raw";
    machine = std::make_unique<Machine>(settings);
    machine->must_run("mkdir -p /mnt && mount -t ext4 -o ro,noload /dev/vda /mnt");
    machine->must_run(fmt::format(
        "cp /mnt/boot/vmlinuz-{0}.* /tmp/vmlinuz && cp /mnt/boot/initrd.img-{0}.* /tmp/initrd", GetParam().kernel));
    machine->must_run("umount /mnt");
    machine->send(
        fmt::format("bulkhead run --engine {} --memory 768M --vps 2 --kernel /tmp/vmlinuz --initrd /tmp/initrd "
                    "--cmdline 'console=ttyS0 quiet root=LABEL=debian' --disk /dev/vda,format=raw --on-reset restart",
                    GetParam().engine));
    log_in();
  }
  void log_in() {
    machine->wait_for("debian login: ", Seconds(500));
    machine->type("root\n");
    machine->wait_for("root@debian:~# ", Seconds(120));
    // A shell that neither echoes nor edits: what comes back is what commands print.
    machine->type("exec sh\n");
    machine->wait_for("# ", Seconds(60));
    machine->type("stty -echo; PS1=; echo quiet''now\n");
    machine->wait_for("quietnow\n", Seconds(60));
  }
  /// What a command prints in the guest, and "status=" with its status.
  std::string in_guest(const std::string& command, Seconds limit = Seconds(120)) {
    machine->type(command + "; echo status=$? END''OF''IT\n");
    return machine->wait_for("ENDOFIT\n", limit);
  }

  std::unique_ptr<Machine> machine;
};

TEST_P(Debian, BootsFromADiskOnVmbusAndComesBackWithIt) {
  start();
  EXPECT_THAT(in_guest("systemd-detect-virt"), HasSubstr("microsoft"));
  EXPECT_THAT(in_guest("findmnt -n -o SOURCE /"), HasSubstr("/dev/sda"));
  EXPECT_THAT(in_guest("nproc"), HasSubstr("2"));
  const std::string fio = in_guest(
      "fio --name=check --filename=/root/file --size=8M --bs=4k --rw=randrw --ioengine=libaio --iodepth=16 --direct=1 "
      "--verify=crc32c --verify_fatal=1 --end_fsync=1 --minimal >/tmp/fio",
      Seconds(400));
  EXPECT_THAT(fio, HasSubstr("status=0 "));

  in_guest("echo kept >/root/mark && sync");
  machine->type(
      "kexec -l /boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r) --reuse-cmdline && "
      "systemctl kexec\n");
  log_in();
  EXPECT_THAT(in_guest("cat /root/mark"), HasSubstr("kept"));
  machine->type("reboot\n");
  machine->wait_for("restarted after", Seconds(200));
  log_in();
  EXPECT_THAT(in_guest("cat /root/mark; dmesg | grep -c 'I/O error'"), HasSubstr("kept\n0\n"));
  machine->type("poweroff\n");
  machine->wait_for("powered off", Seconds(200));
}

INSTANTIATE_TEST_SUITE_P(Engines, Debian,
                         testing::Values(DebianCase{"native", "6.1"}, DebianCase{"native", "6.12"},
                                         DebianCase{"kvm", "6.1"}, DebianCase{"kvm", "6.12"}),
                         [](const auto& instance) {
                           return test_name(instance.param.engine + "Linux" + instance.param.kernel);
                         });

}  // namespace
}  // namespace bulkhead::lab
