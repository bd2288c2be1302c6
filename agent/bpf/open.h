/* Opens of files with private keys, allowed and denied: what is told of them. */
#ifndef KEYVIGIL_OPEN_H
#define KEYVIGIL_OPEN_H

#include "generation.h"

#define ERRNO_MAX 4095
#define ERRNO_PERM (-1)
#define ERRNO_ACCES (-13)
#define DIR_CURRENT (-100)
/* Names a file and lets nothing be read of it. */
#define NAME_ONLY 010000000

/* What a thread opened and has not loaded a key from: two at most, more are as good as unknown. */
struct opened {
	/* Start of the thread and number of its program: another may have its id later, or its place. */
	__u64 started_ns;
	__u32 exec;
	__u32 first;
	__u32 second;
	__u32 many;
	/* The object that was loaded last: an outer function returns the same once more. */
	__u64 loaded;
	__u64 first_generation;
	__u64 second_generation;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct opened);
} opened SEC(".maps");

/* What this thread opened in this program; 0 for nothing. */
static __always_inline struct opened *opened_here(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct opened *seen = bpf_map_lookup_elem(&opened, &thread);
	struct task_struct *task = current_task();

	if (!seen || seen->started_ns != BPF_CORE_READ(task, start_boottime) || seen->exec != (__u32)BPF_CORE_READ(task, self_exec_id))
		return 0;
	return seen;
}

static __always_inline void remember_open(__u32 file, __u64 generation)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct opened *seen = opened_here(), fresh = { .first = file, .first_generation = generation };
	struct task_struct *task = current_task();

	if (!seen) {
		fresh.started_ns = BPF_CORE_READ(task, start_boottime);
		fresh.exec = BPF_CORE_READ(task, self_exec_id);
		bpf_map_update_elem(&opened, &thread, &fresh, BPF_ANY);
		return;
	}
	/* Of one that is opened again, what it reads last is what it loads. */
	if (!seen->first || seen->first == file) {
		seen->first = file;
		seen->first_generation = generation;
	} else if (!seen->second || seen->second == file) {
		seen->second = file;
		seen->second_generation = generation;
	} else {
		seen->many = 1;
	}
}

static __always_inline int is_ours(void)
{
	__u32 zero = 0, pid = bpf_get_current_pid_tgid() >> 32;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set && (set->self == pid || set->agent == pid);
}

static __always_inline int tell_opened(struct file *file, struct given given)
{
	struct file_id id = id_of(BPF_CORE_READ(file, f_inode));
	__u32 number = number_of(file, given), flags;
	__u64 generation;
	struct record *r;

	if (!number || is_ours())
		return 0;
	flags = BPF_CORE_READ(file, f_flags);
	if (flags & NAME_ONLY)
		return 0;
	generation = generation_of(file);
	remember_open(number, generation);
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		count_lost(LOST_RECORD);
		return 0;
	}
	put_actor(r, RECORD_OPENED);
	r->ino = id.ino;
	r->dev = id.dev;
	r->file = number;
	r->generation = generation;
	r->open_flags = flags;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

/* The file behind a descriptor of the process; 0 for none. */
static __always_inline struct file *file_at(__u32 descriptor)
{
	struct task_struct *task = current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots, *file = 0;

	if (descriptor >= BPF_CORE_READ(table, max_fds))
		return 0;
	slots = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + descriptor);
	return file;
}

/* The directory that a path is relative to. */
static __always_inline void put_base(struct record *r, long dir)
{
	struct task_struct *task = current_task();
	struct fs_struct *fs;
	struct file *file;

	__u32 flags = r->flags;

	r->flags &= ~RECORD_CUT;
	if ((int)dir == DIR_CURRENT) {
		fs = BPF_CORE_READ(task, fs);
		put_path(r, __builtin_preserve_access_index(&fs->pwd));
	} else {
		file = file_at(dir);
		if (file)
			put_path(r, __builtin_preserve_access_index(&file->f_path));
		else
			r->flags |= RECORD_CUT;
	}
	/* Without its beginning it is not known what was asked for. */
	if (r->flags & RECORD_CUT)
		r->flags |= RECORD_CUT_ASKED;
	r->flags |= flags;
}

/* Appends the path that was asked for. */
static __always_inline void put_asked(struct record *r, struct asked *a)
{
	__u32 used = r->used;
	long n;

	if (used >= TEXT_ROOM) {
		r->flags |= RECORD_CUT | RECORD_CUT_ASKED;
		return;
	}
	n = bpf_probe_read_kernel_str(&r->text[used & (TEXT_ROOM - 1)], PATH_READ, a->path);
	if (n >= PATH_READ)
		r->flags |= RECORD_CUT | RECORD_CUT_ASKED;
	if (n > 0)
		r->used = used + n;
	r->asked_len = r->used - used;
}

/* A followed file that a thread has no right to by the file's mode: what it is denied then, whichever path it asked by. */
struct refusal {
	__u64 at_ns;
	__u32 file;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct refusal);
} refusals SEC(".maps");

/* The open follows at once; what was only asked about (access(2)) is forgotten. */
#define REFUSAL_NS 10000000

static __always_inline __u32 refused_here(void)
{
	__u64 thread = bpf_get_current_pid_tgid(), at_ns;
	struct refusal *refusal = bpf_map_lookup_elem(&refusals, &thread);
	__u32 file;

	if (!refusal)
		return 0;
	at_ns = refusal->at_ns;
	file = refusal->file;
	bpf_map_delete_elem(&refusals, &thread);
	return bpf_ktime_get_ns() - at_ns < REFUSAL_NS ? file : 0;
}

/* Opens that were denied, known by the file or else by its path alone, and those of which the kernel tells no more than the path. */
static __always_inline int tell_asked(struct given given, long dir, long result)
{
	__u32 zero = 0, before, file = result == ERRNO_ACCES ? refused_here() : 0;
	struct asked *a = bpf_map_lookup_elem(&asked, &zero);
	struct record *r;
	__u64 hash;
	long len;

	if (!a || is_ours())
		return 0;
	len = read_path(a, given);
	if (len <= 1)
		return 0;
	hash = hash_of(a->path, len, 1);
	/* A path that is too long to know is told rather than missed. */
	if (!file && hash && !bpf_map_lookup_elem(&names, &hash))
		return 0;
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		count_lost(LOST_RECORD);
		return 0;
	}
	put_actor(r, RECORD_ASKED);
	r->result = result;
	r->file = file;
	if (!has_our_root())
		r->mount_ns = BPF_CORE_READ(current_task(), nsproxy, mnt_ns, ns.inum);
	put_asked(r, a);
	before = r->used;
	if (a->path[0] != '/')
		put_base(r, dir);
	r->base_len = r->used - before;
	bpf_ringbuf_submit(r, 0);
	return 0;
}

#endif
