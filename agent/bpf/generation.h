/* Which state of a file it was that was opened: a key that is replaced, or written anew where it lies, is another one under the same
 * path. agent/src/probe/layout.rs makes the same number of what `stat` says. */
#ifndef KEYVIGIL_GENERATION_H
#define KEYVIGIL_GENERATION_H

#include "which.h"

/* Kernels since 6.13 keep a mark of their own above the nanoseconds. */
#define NANOSECONDS 0x3fffffff

struct instant {
	__s64 seconds;
	__u64 ns;
};

#define AS_ONE(inode, field) \
	((struct instant){ BPF_CORE_READ(inode, field.tv_sec), BPF_CORE_READ(inode, field.tv_nsec) })
#define AS_TWO(inode, field) ((struct instant){ BPF_CORE_READ(inode, field##_sec), BPF_CORE_READ(inode, field##_nsec) })

static __always_inline struct instant written(struct inode *inode)
{
	struct inode___mangled *mangled = (void *)inode;
	struct inode___split *split = (void *)inode;

	if (bpf_core_field_exists(split->i_mtime_sec))
		return AS_TWO(split, i_mtime);
	if (bpf_core_field_exists(mangled->__i_mtime))
		return AS_ONE(mangled, __i_mtime);
	if (bpf_core_field_exists(inode->i_mtime))
		return AS_ONE(inode, i_mtime);
	return (struct instant){};
}

static __always_inline struct instant changed(struct inode *inode)
{
	struct inode___mangled *mangled = (void *)inode;
	struct inode___split *split = (void *)inode;

	if (bpf_core_field_exists(split->i_ctime_sec))
		return AS_TWO(split, i_ctime);
	if (bpf_core_field_exists(mangled->__i_ctime))
		return AS_ONE(mangled, __i_ctime);
	if (bpf_core_field_exists(inode->i_ctime))
		return AS_ONE(inode, i_ctime);
	return (struct instant){};
}

static __always_inline __u64 mixed(__u64 hash, __u64 more)
{
	return (hash ^ more) * HASH_PRIME;
}

static __always_inline __u64 folded(__u64 hash)
{
	return (hash ^ hash >> 32) & 0xffffffff;
}

/* Above, which file as of its last change; below, which contents, as far as size and last write tell: what is only given other rights
 * or another name holds the same key. 0 where the kernel has no such times. */
static __always_inline __u64 generation_of(struct file *file)
{
	struct file *layer;
	struct inode *inode;
	struct instant c, m;
	__u64 ino, file_hash, contents;

	for (int i = 0; i < LAYERS_MAX; i++) {
		layer = below(file);
		if (layer)
			file = layer;
	}
	inode = BPF_CORE_READ(file, f_inode);
	c = changed(inode);
	m = written(inode);
	if (!c.seconds && !m.seconds)
		return 0;
	ino = BPF_CORE_READ(inode, i_ino);
	file_hash = mixed(mixed(mixed(HASH_START, ino), c.seconds), c.ns & NANOSECONDS);
	contents = mixed(mixed(mixed(mixed(HASH_START, ino), m.seconds), m.ns & NANOSECONDS), BPF_CORE_READ(inode, i_size));
	return folded(file_hash) << 32 | folded(contents);
}

#endif
