// SPDX-License-Identifier: Apache-2.0
//
// hold-kvm: keeps KVM from patching the kernel's code each time that a machine comes or goes.
//
// With the first virtual processor, the first without a local APIC, the first whose APIC is off, Linux replaces instructions in
// __schedule and in KVM: it writes a breakpoint (INT3), tells the other processors, writes the rest. QEMU 7.2 translates code
// without a lock on its page: a processor that translated the breakpoint while another one wrote over it keeps that
// translation, takes the breakpoint, finds that there is none, goes back to the instruction, for ever. On a machine with two
// processors that was seen in one of seven rounds of the engine's tests. While this program holds one processor of each kind,
// there is no first and no last, and nothing is patched.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace {

constexpr unsigned long long kApicBaseWithoutEnable = 0xfee00000;

int complain(const char* what) {
  std::perror(what);
  return 1;
}

}  // namespace

int main() {
  const int device = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (device < 0) return complain("hold-kvm: /dev/kvm");
  const int without_apic = ::ioctl(device, KVM_CREATE_VM, 0);
  if (without_apic < 0 || ::ioctl(without_apic, KVM_CREATE_VCPU, 0) < 0) return complain("hold-kvm: a machine");

  const int machine = ::ioctl(device, KVM_CREATE_VM, 0);
  kvm_enable_cap split = {};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = 24;
  if (machine < 0 || ::ioctl(machine, KVM_ENABLE_CAP, &split) < 0) return complain("hold-kvm: local APICs");
  // One as it is at reset, switched off by software, and one that is switched off as a whole.
  const int by_software = ::ioctl(machine, KVM_CREATE_VCPU, 0);
  const int as_a_whole = ::ioctl(machine, KVM_CREATE_VCPU, 1);
  kvm_sregs registers = {};
  if (by_software < 0 || as_a_whole < 0 || ::ioctl(as_a_whole, KVM_GET_SREGS, &registers) < 0) {
    return complain("hold-kvm: a processor");
  }
  registers.apic_base = kApicBaseWithoutEnable;
  if (::ioctl(as_a_whole, KVM_SET_SREGS, &registers) < 0) return complain("hold-kvm: a local APIC");
  for (;;) ::pause();
}
