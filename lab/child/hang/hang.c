// SPDX-License-Identifier: GPL-2.0-only
//
// Loading this module hangs the kernel: every processor spins with its interrupts off. For tests of what the host says
// of a guest that hangs.
#include <linux/module.h>
#include <linux/smp.h>

static void spin(void *unused)
{
	for (;;)
		cpu_relax();
}

static int __init hang_init(void)
{
	pr_emerg("child: hanging\n");
	on_each_cpu(spin, NULL, 0);
	return 0;
}
module_init(hang_init);

MODULE_DESCRIPTION("Hangs the kernel");
MODULE_LICENSE("GPL");
