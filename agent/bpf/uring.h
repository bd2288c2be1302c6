/* Opens by io_uring: they are no system calls of their own. */
#ifndef KEYVIGIL_URING_H
#define KEYVIGIL_URING_H

#include "syscalls.h"

#define URING_OPENAT 18
#define URING_OPENAT2 28

struct io_cqe {
	__s32 res;
} KERNEL_TYPE;

/* Since Linux 5.19. */
struct io_kiocb {
	__u8 opcode;
	struct io_cqe cqe;
} KERNEL_TYPE;

SEC("raw_tracepoint/io_uring_complete")
int uring_done(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (struct io_kiocb *)ctx->args[1];
	__u8 opcode = BPF_CORE_READ(request, opcode);
	__s32 result = BPF_CORE_READ(request, cqe.res);
	struct file *file;

	if (opcode != URING_OPENAT && opcode != URING_OPENAT2)
		return 0;
	file = file_at(result);
	return result >= 0 && file ? tell_opened(file, 0) : 0;
}

#endif
