// SPDX-License-Identifier: Apache-2.0
//
// A stock kernel with Debian's hyperv-daemons, and the host's side of them: `bulkhead status`, `kvp`, `copy` and the others.
// A boot of the emulated machine takes long, so each test goes through many things, in order.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <charconv>

#include "tests/lab/child.hpp"

namespace bulkhead::lab {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

long number_in(const std::string& text) {
  long value = -1;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// A child named "web", whose shell is at our command.
class Services : public OnEachEngine {
 protected:
  void start(const std::string& options) {
    machine = std::make_unique<Machine>(settings());
    // Somebody must hold the console's input open, or the child's shell would find its end.
    machine->must_run("mkfifo /tmp/console.in && touch /tmp/console.out && (sleep 10000 >/tmp/console.in &)");
    machine->must_run(fmt::format(
        "bulkhead run --name web --engine {} --kernel /child/6.1-cloud/vmlinuz --initrd /child/6.1-cloud/initrd "
        "--cmdline 'console=ttyS0 quiet child.mode=services' --on-reset restart {} </tmp/console.in "
        ">>/tmp/console.out 2>/tmp/web.log &",
        engine(), options));
    until("grep -q 'child: ready' /tmp/console.out", Seconds(200));
    machine->must_run("bulkhead events web >/tmp/events &");
  }
  /// Waits until a command of the host succeeds.
  void until(const std::string& condition, Seconds limit = Seconds(90)) {
    machine->must_run("until " + condition + "; do usleep 200000; done", limit);
  }
  std::string host(const std::string& command, Seconds limit = Seconds(90)) {
    return machine->must_run(command, limit);
  }
  /// Runs a command in the child.
  Answer in_guest(const std::string& command, Seconds limit = Seconds(90)) {
    return machine->run("sh /lab/guest '" + command + "'", limit);
  }
  std::string guest(const std::string& command, Seconds limit = Seconds(90)) {
    return machine->must_run("sh /lab/guest '" + command + "'", limit);
  }
  void wait_for_heartbeat(const std::string& state) {
    until(fmt::format("bulkhead status web | grep -q 'heartbeat *{}$'", state));
  }
  std::string inspected(const std::string& name) {
    return host(fmt::format("bulkhead inspect web | sed -n 's/^ *{}: //p'", name));
  }

  std::unique_ptr<Machine> machine;
};

TEST_P(Services, GuestAndHostKnowEachOther) {
  start("--memory 256M");

  SCOPED_TRACE("what the guest is");
  wait_for_heartbeat("ok");
  until("bulkhead status web | grep -q 192.0.2.17");
  const std::string status = host("bulkhead status web");
  EXPECT_THAT(status, ContainsRegex("system +Debian GNU/Linux"));
  EXPECT_THAT(status, ContainsRegex("kernel +" + first_line(guest("uname -r"))));
  EXPECT_THAT(status, ContainsRegex("host name +child"));
  EXPECT_THAT(status, ContainsRegex("engine +" + engine()));
  const std::string adapter = first_line(guest("cat /sys/class/net/dummy0/address"));
  EXPECT_THAT(host("bulkhead addresses get web " + adapter), HasSubstr("192.0.2.17"));

  SCOPED_TRACE("versions, the newest that this kernel knows");
  const std::string tree = host("bulkhead inspect web");
  EXPECT_THAT(tree, ContainsRegex("heartbeat\n +phase: ready\n +framework-version: 3.0\n +message-version: 3.0"));
  EXPECT_THAT(tree, ContainsRegex("shutdown\n +phase: ready\n +framework-version: 3.0\n +message-version: 3.2"));
  EXPECT_THAT(tree,
              ContainsRegex("time-synchronization\n +phase: ready\n +framework-version: 3.0\n +message-version: 4.0"));
  EXPECT_THAT(tree,
              ContainsRegex("key-value-exchange\n +phase: ready\n +framework-version: 3.0\n +message-version: 4.0"));
  EXPECT_THAT(tree, ContainsRegex("volume-snapshot\n +phase: ready\n +framework-version: 3.0\n +message-version: 5.0"));
  EXPECT_THAT(tree, ContainsRegex("file-copy\n +phase: ready\n +framework-version: 3.0\n +message-version: 1.1"));

  SCOPED_TRACE("keys in both directions");
  host("bulkhead kvp set web role frontend");
  EXPECT_THAT(guest("tr \"\\\\0\" \"\\\\n\" </var/lib/hyperv/.kvp_pool_0"),
              AllOf(HasSubstr("role\n"), HasSubstr("\nfrontend\n")));
  guest("(printf state; head -c 507 /dev/zero; printf up; head -c 2046 /dev/zero) >>/var/lib/hyperv/.kvp_pool_1");
  EXPECT_EQ(host("bulkhead kvp get web state"), "up\n");
  EXPECT_THAT(host("bulkhead kvp list web --pool auto"), HasSubstr("OSName=Debian GNU/Linux"));

  SCOPED_TRACE("a stepped host clock is followed, forward and back");
  for (const char* step : {"+ 86400", "- 86400"}) {
    host(fmt::format("date -s @$(($(date +%s) {})) >/dev/null", step));
    until("d=$(($(sh /lab/guest date +%s | head -n 1) - $(date +%s))) && [ $d -gt -20 ] && [ $d -lt 20 ]");
  }

  SCOPED_TRACE("a pause, and on again");
  host("bulkhead pause web && bulkhead status web | grep -q 'state *paused' && sleep 3 && bulkhead resume web");
  until("d=$(($(sh /lab/guest date +%s | head -n 1) - $(date +%s))) && [ $d -gt -2 ] && [ $d -lt 2 ]");
  wait_for_heartbeat("ok");

  SCOPED_TRACE("a file, with its checksum");
  host("head -c 1000000 /dev/urandom >/tmp/file && bulkhead copy web /tmp/file /root/new/folder/copy --create-folder");
  EXPECT_EQ(first_line(guest("sha256sum </root/new/folder/copy")), first_line(host("sha256sum </tmp/file")));
  const Answer again = machine->run("bulkhead copy web /tmp/file /root/new/folder/copy");
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.output, HasSubstr("the file is there already in the guest"));
  EXPECT_EQ(machine->run("bulkhead copy web /tmp/file /root/new/folder/copy --overwrite").status, 0);

  SCOPED_TRACE("a freeze holds writes until it is thawed");
  host("bulkhead freeze web --seconds 300");
  guest("(echo x >/data/1; sync /data/1; echo >/tmp/written-1) >/dev/null 2>&1 &");
  guest("sleep 1; [ ! -e /tmp/written-1 ]");
  EXPECT_EQ(inspected("file-systems"), "frozen\n");
  host("bulkhead thaw web");
  guest("until [ -e /tmp/written-1 ]; do usleep 100000; done");

  SCOPED_TRACE("and lets go after its time limit");
  host("bulkhead freeze web --seconds 8");
  guest("(echo x >/data/2; sync /data/2; echo >/tmp/written-2) >/dev/null 2>&1 &");
  until("grep -q thawed /tmp/events");
  guest("until [ -e /tmp/written-2 ]; do usleep 100000; done");
  EXPECT_EQ(inspected("let-go-by-time-limit"), "1\n");

  SCOPED_TRACE("disks come, grow and go");
  guest("modprobe hv_storvsc && modprobe sd_mod");
  host("truncate -s 32M /tmp/disk.raw");
  EXPECT_EQ(host("bulkhead attach-disk web /tmp/disk.raw"), "0\n");
  guest("until [ \"$(cat /sys/block/sda/size)\" = 65536 ]; do usleep 200000; done 2>/dev/null");
  host("bulkhead resize-disk web 0 64M && bulkhead limit-disk web 0 --iops 1000 --bps 100M");
  guest("until [ \"$(cat /sys/block/sda/size)\" = 131072 ]; do usleep 200000; done");
  host("bulkhead detach-disk web 0");
  guest("until [ ! -e /sys/block/sda ]; do usleep 200000; done");

  SCOPED_TRACE("a clean shutdown");
  host("bulkhead shutdown web --wait");
  until("grep -q 'powered off' /tmp/web.log");
  EXPECT_THAT(host("cat /tmp/console.out"), HasSubstr("child: powering off"));
  EXPECT_THAT(host("cat /tmp/events"), HasSubstr("\"event\":\"ended\""));
  EXPECT_EQ(machine->kernel_complaints(), "");
}

TEST_P(Services, MemoryGrowsAndComesBackAndAHangIsSeen) {
  start("--memory 256M --memory-minimum 128M --memory-maximum 384M");

  SCOPED_TRACE("under load it grows to its maximum");
  wait_for_heartbeat("ok");
  until("bulkhead status web | grep -q 'balloon *ok'");
  guest("mount -o remount,size=2G /tmp");
  // As quickly as memory comes, so that the kernel kills nothing.
  guest(
      "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do "
      "until [ $(sed -n \"s/MemAvailable: *\\([0-9]*\\).*/\\1/p\" /proc/meminfo) -gt 30000 ]; do usleep 200000; done; "
      "head -c 16777216 /dev/zero >/tmp/load.$i; done",
      Seconds(200));
  until("bulkhead status web | grep -q 'memory *384 MiB'", Seconds(120));
  EXPECT_GT(number_in(guest("sed -n \"s/MemTotal: *\\([0-9]*\\).*/\\1/p\" /proc/meminfo")), 300'000);
  const std::string host_free = "sed -n 's/MemFree: *\\([0-9]*\\).*/\\1/p' /proc/meminfo";
  const long free_then = number_in(host(host_free));

  SCOPED_TRACE("and idle it gives back what the host then has");
  guest("rm /tmp/load.*; echo 3 >/proc/sys/vm/drop_caches");
  until("[ $(bulkhead status web --json | sed -n 's/.*\"assigned\": \\([0-9]*\\).*/\\1/p') -lt 230000000 ]",
        Seconds(200));
  const long free_now = number_in(host(host_free));
  EXPECT_GT(free_now - free_then, 100'000) << "KiB of the host";
  EXPECT_EQ(inspected("refused-messages").substr(0, 1), "0");

  SCOPED_TRACE("a clean reboot");
  host("bulkhead reboot web --wait");
  EXPECT_THAT(host("cat /tmp/console.out"), HasSubstr("child: rebooting"));
  until("[ $(grep -c 'child: ready' /tmp/console.out) = 2 ]", Seconds(200));
  wait_for_heartbeat("ok");
  EXPECT_THAT(host("bulkhead status web"), ContainsRegex("memory +256 MiB"));

  SCOPED_TRACE("a guest that hangs is lost");
  machine->must_run("echo '99 modprobe hang' >/tmp/console.in");
  wait_for_heartbeat("lost");
  EXPECT_EQ(machine->run("bulkhead shutdown web").status, 1);
  host("bulkhead stop web");
  until("grep -q 'powered off' /tmp/web.log");
  EXPECT_THAT(host("cat /tmp/events"), HasSubstr("{\"event\":\"heartbeat\",\"state\":\"lost\"}"));
  EXPECT_EQ(machine->kernel_complaints(), "");
}

/// Many round trips of 6 KiB.
TEST_P(Services, CopyOf100MebibytesArrivesAsItIs) {
  start("--memory 512M");
  host("head -c 104857600 /dev/urandom >/tmp/file", Seconds(200));
  wait_for_heartbeat("ok");
  host("bulkhead copy web /tmp/file /tmp/copy", Seconds(900));
  EXPECT_EQ(first_line(guest("sha256sum </tmp/copy", Seconds(200))),
            first_line(host("sha256sum </tmp/file", Seconds(200))));
  host("bulkhead shutdown web --wait");
}

INSTANTIATE_TEST_SUITE_P(Engines, Services, every_engine(), engine_name);

}  // namespace
}  // namespace bulkhead::lab
