// SPDX-License-Identifier: Apache-2.0
//
// kexec KERNEL INITRD COMMAND-LINE: ends this Linux and starts another in its place, without a reset of the machine. What
// Debian's kexec-tools do, without the libraries that they need.
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

int main(int count, char** arguments) {
  if (count != 4) {
    std::fputs("usage: kexec KERNEL INITRD COMMAND-LINE\n", stderr);
    return 2;
  }
  const int kernel = ::open(arguments[1], O_RDONLY | O_CLOEXEC);
  const int initrd = ::open(arguments[2], O_RDONLY | O_CLOEXEC);
  const char* words = arguments[3];
  if (::syscall(SYS_kexec_file_load, kernel, initrd, std::strlen(words) + 1, words, 0UL) != 0) {
    std::perror("kexec_file_load");
    return 1;
  }
  ::reboot(LINUX_REBOOT_CMD_KEXEC);
  std::perror("reboot");
  return 1;
}
