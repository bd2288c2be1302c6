/* The tables that the helper fills and the programs read, and the other way round. All are bounded. */
#ifndef KEYVIGIL_TABLES_H
#define KEYVIGIL_TABLES_H

#include "record.h"

/* Files with private keys: which one it is, by number; 0 is none. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_id);
	__type(value, struct followed);
} files SEC(".maps");

/* Under which name they lie in which directory: a key that is replaced has another inode, and its next reader may come before anybody
 * has looked. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct entry_id);
	__type(value, __u32);
} entries SEC(".maps");

/* Last parts of the paths of these files, hashed (FNV-1a, 64 bit): a denied open has no inode, only the path that was asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} names SEC(".maps");

/* Their whole paths, hashed likewise: where a link on the way leads elsewhere, neither the file nor its directory is known. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} paths SEC(".maps");

struct settings {
	/* The agent and its helper read keys as well; they are not told. */
	__u32 self;
	__u32 agent;
	/* The helper's root directory. */
	struct file_id root;
	/* Opens are seen where the kernel carries them out. */
	__u32 walks;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} records SEC(".maps");

/* What could not be told or counted, by reason. */
enum lost {
	LOST_RECORD = 0,
	LOST_COUNT = 1,
	LOST_BINDING = 2,
	LOST_MAX = 4,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOST_MAX);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(__u32 why)
{
	__u64 *n = bpf_map_lookup_elem(&lost, &why);

	if (n)
		__sync_fetch_and_add(n, 1);
}

#endif
