// SPDX-License-Identifier: GPL-2.0-only
/* /dev/bulkhead, and the driver's coming and going with the module and with the machine. */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/suspend.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

#include "bulkhead.h"
#include "deposit.h"
#include "hypercall.h"

u32 vid_tsc_khz __ro_after_init;

static int device_information(struct bulkhead_information __user *argument)
{
	struct bulkhead_information information = {.vid_version = BULKHEAD_VID_VERSION};
	struct hv_bulkhead_information *page = (void *)get_zeroed_page(GFP_KERNEL);
	int error;

	if (!page)
		return -ENOMEM;
	error = vid_hypervisor_information(page);
	information.hypervisor = *page;
	free_page((unsigned long)page);
	if (error)
		return error;
	return copy_to_user(argument, &information, sizeof(information)) ? -EFAULT : 0;
}

static long device_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	switch (command) {
	case BULKHEAD_GET_INFORMATION:
		return device_information((void __user *)argument);
	case BULKHEAD_CREATE_MEMORY:
		return vid_memory_create((const void __user *)argument);
	case BULKHEAD_CREATE_PARTITION:
		return vid_partition_create((const void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "bulkhead",
	.mode = 0660,
	.fops = &device_operations,
};

/*
 * Restart, power-off and kexec: the hypervisor may live on, and the next kernel, which does not know which pages are
 * lent out, must find all of its memory.
 */
static int before_restart(struct notifier_block *block, unsigned long action, void *data)
{
	vid_partitions_close();
	vid_deposit_stop();
	return NOTIFY_DONE;
}

static struct notifier_block restart_notifier = {.notifier_call = before_restart};

/* Neither an image on disk nor a processor that was switched off brings the hypervisor's state back. */
static int before_sleep(struct notifier_block *block, unsigned long action, void *data)
{
	switch (action) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		pr_warn("bulkhead: the root partition of a hypervisor cannot sleep\n");
		return notifier_from_errno(-EBUSY);
	default:
		return NOTIFY_DONE;
	}
}

static struct notifier_block sleep_notifier = {.notifier_call = before_sleep};

static int __init bulkhead_init(void)
{
	int error = vid_hypervisor_detect();

	if (error)
		return error;
	vid_tsc_khz = tsc_khz;
	if (!vid_tsc_khz) {
		pr_err("bulkhead: this kernel does not know the frequency of the time stamp counter\n");
		return -ENODEV;
	}
	error = vid_deposit_start();
	if (error)
		return error;
	error = vid_hypervisor_remove_leftovers();
	if (error)
		goto no_device;
	error = register_reboot_notifier(&restart_notifier);
	if (error)
		goto no_device;
	error = register_pm_notifier(&sleep_notifier);
	if (error)
		goto no_sleep_notifier;
	error = misc_register(&device);
	if (error)
		goto no_misc;
	return 0;

no_misc:
	unregister_pm_notifier(&sleep_notifier);
no_sleep_notifier:
	unregister_reboot_notifier(&restart_notifier);
no_device:
	vid_deposit_stop();
	return error;
}

static void __exit bulkhead_exit(void)
{
	misc_deregister(&device);
	unregister_pm_notifier(&sleep_notifier);
	unregister_reboot_notifier(&restart_notifier);
	vid_deposit_stop();
}

module_init(bulkhead_init);
module_exit(bulkhead_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Virtualization infrastructure driver of the Bulkhead hypervisor's root partition");
