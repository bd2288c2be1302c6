/* Opens where the kernel carries them out, whichever way they were asked for: by a system call, by io_uring into a descriptor or a table
 * of its own, or by the kernel itself. Where the kernel lets its functions be watched, nothing else is needed: the path is the kernel's own
 * copy, and the file is looked at before anybody else can reach it. Elsewhere system calls and completions of io_uring are. */
#ifndef KEYVIGIL_WALK_H
#define KEYVIGIL_WALK_H

#include "open.h"

/* The kernel asks for a right of its own only where the mode of a file gives none: (inode, right), later with a namespace before. */
SEC("fentry/capable_wrt_inode_uidgid")
int right_asked(__u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];
	__u64 thread = bpf_get_current_pid_tgid();
	struct refusal refusal = {};

	if (!is_inode(inode))
		inode = (void *)ctx[1];
	refusal.file = number_at(inode);
	if (!refusal.file) {
		if (bpf_map_lookup_elem(&refusals, &thread))
			bpf_map_delete_elem(&refusals, &thread);
		return 0;
	}
	refusal.at_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&refusals, &thread, &refusal, BPF_ANY);
	return 0;
}

static __always_inline int tell_walked(__u64 returned, struct given given, long dir)
{
	if (returned < (__u64)-ERRNO_MAX)
		return tell_opened((struct file *)returned, given);
	if ((long)returned != ERRNO_ACCES && (long)returned != ERRNO_PERM)
		return 0;
	return given.path ? tell_asked(given, dir, returned) : 0;
}

/* (directory, name, how) */
SEC("fexit/do_filp_open")
int path_opened(__u64 *ctx)
{
	struct filename *name = (void *)ctx[1];
	struct given given = { .path = BPF_CORE_READ(name, name), .is_copy = 1 };

	return tell_walked(ctx[3], given, (int)ctx[0]);
}

/* What is asked for by a handle; its arguments are others with each kernel. */
SEC("fexit/do_file_open_root")
int handle_opened(__u64 *ctx)
{
	struct given given = {};
	__u64 returned = 0;

	if (bpf_get_func_ret(ctx, &returned))
		return 0;
	return tell_walked(returned, given, 0);
}

#endif
