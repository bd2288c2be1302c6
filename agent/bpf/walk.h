/* Opens where the kernel carries them out, whichever way they were asked for: by a system call, by io_uring into a descriptor or a table
 * of its own, or by the kernel itself. Where the kernel lets its functions be watched, nothing else is needed: the path is the kernel's own
 * copy, and the file is looked at before anybody else can reach it. Elsewhere system calls and completions of io_uring are. */
#ifndef KEYVIGIL_WALK_H
#define KEYVIGIL_WALK_H

#include "open.h"

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
