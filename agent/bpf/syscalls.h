/* System calls that open files, as they return: where opens are not seen as the kernel carries them out. One program on what all calls pass,
 * rather than one on each call's own tracepoint: those are run as perf events, which the kernel leaves out, uncounted, on a processor where a
 * change to any program's table was interrupted; nor are there any for programs of 32 bits. So the numbers are known here, and what is no open
 * is let go first. */
#ifndef KEYVIGIL_SYSCALLS_H
#define KEYVIGIL_SYSCALLS_H

#include "open.h"

/* How a call names what it opens. */
enum way {
	OPENS_NOTHING = 0,
	BY_PATH,
	BY_DIRECTORY,
	/* It names no path; who may do it may read all files. */
	BY_HANDLE,
};

#define CALL_OPENAT2 437

#if defined(__TARGET_ARCH_x86)
struct pt_regs___kernel {
	unsigned long bx;
	unsigned long cx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
} KERNEL_TYPE;

struct thread_info {
	__u32 status;
} KERNEL_TYPE;

struct task_struct___running {
	struct thread_info thread_info;
} KERNEL_TYPE;

#define CALLED(regs) ((__u32)(regs)->orig_ax & ~X32)
/* Calls with pointers of 32 bits and registers of 64 have the numbers of the others, and this. */
#define X32 0x40000000
#define IS_NARROW 2

static __always_inline int is_narrow(struct task_struct *task)
{
	struct task_struct___running *running = (void *)task;

	return BPF_CORE_READ(running, thread_info.status) & IS_NARROW;
}

static __always_inline enum way way_of(__u32 call)
{
	switch (call) {
	case 2: case 85:
		return BY_PATH;
	case 257: case CALL_OPENAT2:
		return BY_DIRECTORY;
	case 304:
		return BY_HANDLE;
	}
	return OPENS_NOTHING;
}

static __always_inline enum way narrow_way_of(__u32 call)
{
	switch (call) {
	case 5: case 8:
		return BY_PATH;
	case 295: case CALL_OPENAT2:
		return BY_DIRECTORY;
	case 342:
		return BY_HANDLE;
	}
	return OPENS_NOTHING;
}

#define FIRST(regs, narrow) ((narrow) ? BPF_CORE_READ(regs, bx) : BPF_CORE_READ(regs, di))
#define SECOND(regs, narrow) ((narrow) ? BPF_CORE_READ(regs, cx) : BPF_CORE_READ(regs, si))

#elif defined(__TARGET_ARCH_arm64)
struct pt_regs___kernel {
	__u64 regs[31];
	/* x0 holds the result by now. */
	__u64 orig_x0;
	__s32 syscallno;
} KERNEL_TYPE;

struct thread_info {
	unsigned long flags;
} KERNEL_TYPE;

struct task_struct___running {
	struct thread_info thread_info;
} KERNEL_TYPE;

#define CALLED(regs) ((__u32)(regs)->syscallno)
#define IS_NARROW (1 << 22)

static __always_inline int is_narrow(struct task_struct *task)
{
	struct task_struct___running *running = (void *)task;

	return (BPF_CORE_READ(running, thread_info.flags) & IS_NARROW) != 0;
}

static __always_inline enum way way_of(__u32 call)
{
	switch (call) {
	case 56: case CALL_OPENAT2:
		return BY_DIRECTORY;
	case 265:
		return BY_HANDLE;
	}
	return OPENS_NOTHING;
}

static __always_inline enum way narrow_way_of(__u32 call)
{
	switch (call) {
	case 5: case 8:
		return BY_PATH;
	case 322: case CALL_OPENAT2:
		return BY_DIRECTORY;
	case 371:
		return BY_HANDLE;
	}
	return OPENS_NOTHING;
}

#define FIRST(regs, narrow) BPF_CORE_READ(regs, orig_x0)
#define SECOND(regs, narrow) BPF_CORE_READ(regs, regs[1])
#else
#error "no such architecture"
#endif

SEC("tp_btf/sys_exit")
int call_returned(__u64 *ctx)
{
	struct pt_regs___kernel *regs = (void *)ctx[0];
	__u32 call = CALLED(regs);
	enum way wide = way_of(call), narrow = narrow_way_of(call), way;
	long result = ctx[1], dir = DIR_CURRENT;
	struct given given = {};
	struct file *file;
	int has_narrow;

	if (!wide && !narrow)
		return 0;
	if (result < 0 && result != ERRNO_ACCES && result != ERRNO_PERM)
		return 0;
	has_narrow = is_narrow(current_task());
	way = has_narrow ? narrow : wide;
	if (way == BY_PATH) {
		given.path = (const char *)FIRST(regs, has_narrow);
	} else if (way == BY_DIRECTORY) {
		dir = (int)FIRST(regs, has_narrow);
		given.path = (const char *)SECOND(regs, has_narrow);
	} else if (way == OPENS_NOTHING) {
		return 0;
	}
	/* The others are seen where they are carried out. */
	if (way != BY_HANDLE && opens_are_seen())
		return 0;
	if (result >= 0) {
		file = file_at(result);
		return file ? tell_opened(file, given) : 0;
	}
	return given.path ? tell_asked(given, dir, result) : 0;
}

#endif
