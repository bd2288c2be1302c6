/* Opens by io_uring, where they are not seen as the kernel carries them out: they are no system calls of their own. */
#ifndef KEYVIGIL_URING_H
#define KEYVIGIL_URING_H

#include "syscalls.h"

#define URING_OPENAT 18
#define URING_OPENAT2 28

struct io_cqe {
	__s32 res;
} KERNEL_TYPE;

/* Files that only a ring knows; thus since Linux 6.13. */
struct io_rsrc_node {
	unsigned long file_ptr;
} KERNEL_TYPE;

struct io_rsrc_data {
	unsigned int nr;
	struct io_rsrc_node **nodes;
} KERNEL_TYPE;

struct io_file_table {
	struct io_rsrc_data data;
} KERNEL_TYPE;

struct io_ring_ctx {
	struct io_file_table file_table;
} KERNEL_TYPE;

/* The kernel has marks of its own there. */
#define FILE_MARKS 3UL
/* Whichever place is free. */
#define ANY_SLOT 0xffffffff

/* Since Linux 5.19. */
struct io_kiocb {
	__u8 opcode;
	__u64 flags;
	struct io_cqe cqe;
	struct io_ring_ctx *ctx;
} KERNEL_TYPE;

struct io_cmd_data {
} KERNEL_TYPE;

/* Since Linux 6.0. */
struct io_kiocb___command {
	struct io_cmd_data cmd;
} KERNEL_TYPE;

struct io_open {
	int dfd;
	__u32 file_slot;
	struct filename *filename;
} KERNEL_TYPE;

/* Nobody shall be told where it succeeds: IOSQE_CQE_SKIP_SUCCESS, which the kernel keeps where the caller put it. */
#define SILENT 64

/* What a request asks for, until it is done. */
struct wanted {
	struct asked asked;
	__s32 dir;
	/* Where in the ring's own table the file goes, from one; 0 for a descriptor. */
	__u32 slot;
	/* It was told when it was asked for: nothing tells what comes of it. */
	__u32 is_told;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct wanted);
} wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wanted);
} wanting SEC(".maps");

static __always_inline int is_open(struct io_kiocb *request)
{
	__u8 opcode = BPF_CORE_READ(request, opcode);

	return opcode == URING_OPENAT || opcode == URING_OPENAT2;
}

static __always_inline int is_silent(struct io_kiocb *request)
{
	return (BPF_CORE_READ_BITFIELD_PROBED(request, flags) & SILENT) != 0;
}

static __always_inline int tables_are_known(void)
{
	struct io_rsrc_data *data = 0;

	return bpf_core_field_exists(data->nodes);
}

/* The file at a place of the ring's own table, from zero. */
static __always_inline struct file *file_in(struct io_ring_ctx *ring, __u32 slot)
{
	struct io_rsrc_node **nodes = BPF_CORE_READ(ring, file_table.data.nodes), *node = 0;

	if (slot >= BPF_CORE_READ(ring, file_table.data.nr))
		return 0;
	bpf_probe_read_kernel(&node, sizeof(node), nodes + slot);
	return (struct file *)(BPF_CORE_READ(node, file_ptr) & ~FILE_MARKS);
}

/* What came of a request. */
static __always_inline struct file *file_of(struct io_kiocb *request, struct wanted *w, __s32 result)
{
	if (!w->slot)
		return file_at(result);
	if (!tables_are_known())
		return 0;
	return file_in(BPF_CORE_READ(request, ctx), w->slot == ANY_SLOT ? (__u32)result : w->slot - 1);
}

SEC("raw_tracepoint/io_uring_submit_req")
int uring_asked(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (struct io_kiocb *)ctx->args[0];
	struct io_open *open = (void *)request + bpf_core_field_offset(struct io_kiocb___command, cmd);
	struct given given = { .is_copy = 1 };
	__u64 id = (__u64)request;
	struct wanted *w;
	__u32 zero = 0;

	if (!is_open(request))
		return 0;
	w = bpf_map_lookup_elem(&wanting, &zero);
	given.path = BPF_CORE_READ(open, filename, name);
	if (!w || !given.path || read_path(&w->asked, given) <= 1) {
		/* What is known by this address is of another request. */
		bpf_map_delete_elem(&wanted, &id);
		count_lost(LOST_RECORD);
		return 0;
	}
	w->dir = BPF_CORE_READ(open, dfd);
	w->slot = BPF_CORE_READ(open, file_slot);
	w->is_told = is_silent(request) || (w->slot && !tables_are_known());
	bpf_map_update_elem(&wanted, &id, w, BPF_ANY);
	return w->is_told ? tell_asked(given, w->dir, 0) : 0;
}

SEC("raw_tracepoint/io_uring_complete")
int uring_done(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *request = (struct io_kiocb *)ctx->args[1];
	struct given given = { .is_copy = 1 }, none = {};
	__u64 id = (__u64)request;
	struct wanted *w;
	struct file *file;
	__s32 result;

	if (!is_open(request))
		return 0;
	w = bpf_map_lookup_elem(&wanted, &id);
	result = BPF_CORE_READ(request, cqe.res);
	if (result < 0 && result != ERRNO_ACCES && result != ERRNO_PERM)
		return 0;
	if (!w) {
		/* It was asked for before this was watched, or so many were under way that it had to go. */
		count_lost(LOST_RECORD);
		return 0;
	}
	if (result >= 0) {
		file = w->is_told ? 0 : file_of(request, w, result);
		return file ? tell_opened(file, none) : 0;
	}
	given.path = w->asked.path;
	return tell_asked(given, w->dir, result);
}

#endif
