/* Which followed file an open is of: by itself, by what lies below an overlay, or by where it lies, as a key that was replaced just now is
 * another file. */
#ifndef KEYVIGIL_WHICH_H
#define KEYVIGIL_WHICH_H

#include "actor.h"

#define OVERLAYFS_MAGIC 0x794c7630
/* The kernel lets no more be laid upon one another (FILESYSTEM_MAX_STACK_DEPTH). */
#define LAYERS_MAX 2
#define HASH_START 0xcbf29ce484222325ULL
#define HASH_PRIME 0x100000001b3ULL

/* A path that is asked for. */
struct asked {
	char path[PATH_READ];
};

/* Where it lies: the caller's memory, or the kernel's copy of it, which nobody changes meanwhile. */
struct given {
	const char *path;
	int is_copy;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asked);
} asked SEC(".maps");

/* Hash of a path, or of the part behind its last slash; 0 for a path that is longer than is read. */
static __always_inline __u64 hash_of(const char *path, long len, int last_only)
{
	__u64 hash = HASH_START;

	/* Filled to the end: it may go on. */
	if (len >= PATH_READ)
		return 0;
	/* Else the compiler takes the bound of the loop away, and older verifiers find none. */
	asm volatile("" : "+r"(len));
	for (int i = 0; i < PATH_READ; i++) {
		if (i >= len - 1)
			return hash;
		if (last_only && path[i] == '/')
			hash = HASH_START;
		else
			hash = (hash ^ (__u8)path[i]) * HASH_PRIME;
	}
	return 0;
}

/* Its length with the NUL; 0 or less for none. */
static __always_inline long read_path(struct asked *to, struct given given)
{
	if (given.is_copy)
		return bpf_probe_read_kernel_str(to->path, sizeof(to->path), given.path);
	return bpf_probe_read_user_str(to->path, sizeof(to->path), given.path);
}

static __always_inline struct file_id id_of(struct inode *inode)
{
	struct file_id id = { .ino = BPF_CORE_READ(inode, i_ino), .dev = BPF_CORE_READ(inode, i_sb, s_dev) };

	return id;
}

static __always_inline int is_inode(struct inode *inode)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);

	return sb && BPF_CORE_READ(sb, s_root, d_sb) == sb;
}

/* The file of a layer that an overlay's file stands for; 0 where it is none. The overlay keeps it as its private data, since Linux 6.13
 * behind one pointer more. */
static __always_inline struct file *below(struct file *file)
{
	struct file *layer;

	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) != OVERLAYFS_MAGIC)
		return 0;
	layer = BPF_CORE_READ(file, private_data);
	if (is_inode(BPF_CORE_READ(layer, f_inode)))
		return layer;
	if (bpf_probe_read_kernel(&layer, sizeof(layer), layer) || !is_inode(BPF_CORE_READ(layer, f_inode)))
		return 0;
	return layer;
}

/* Whether the thread's root is the helper's: a path means the same to both. */
static __always_inline int has_our_root(void)
{
	struct task_struct *task = current_task();
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct file_id root = id_of(BPF_CORE_READ(fs, root.dentry, d_inode));
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set && set->root.ino == root.ino && set->root.dev == root.dev;
}

static __always_inline int opens_are_seen(void)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set && set->walks;
}

/* The number of a file that has a followed one's name, by the path that it was asked for: a link on the way leads elsewhere since. */
static __always_inline __u32 number_by_path(struct asked *a, struct given given)
{
	__u32 *which;
	__u64 hash;
	long len;

	if (!given.path || !has_our_root())
		return 0;
	len = read_path(a, given);
	if (len <= 1 || a->path[0] != '/')
		return 0;
	hash = hash_of(a->path, len, 0);
	which = hash ? bpf_map_lookup_elem(&paths, &hash) : 0;
	return which ? *which : 0;
}

/* The number of a file by what it is, whatever its name; 0 for one that is not followed. */
static __always_inline __u32 number_at(struct inode *inode)
{
	struct file_id id = id_of(inode);
	struct followed *first = bpf_map_lookup_elem(&files, &id), *other;

	if (!first)
		return 0;
	id.version = BPF_CORE_READ(inode, i_generation);
	if (first->version == id.version)
		return first->number;
	other = id.version ? bpf_map_lookup_elem(&files, &id) : 0;
	if (other)
		return other->number;
	return first->version ? 0 : first->number;
}

/* The number of a file, 0 for one that is not followed. `given` is what it was asked for, where that is known. */
static __always_inline __u32 number_of(struct file *file, struct given given)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry), *parent;
	struct entry_id entry = {};
	struct file *layer = file;
	__u32 *which, number = number_at(BPF_CORE_READ(file, f_inode)), zero = 0;
	struct asked *a;
	char dots[3] = {};
	long len;

	if (number)
		return number;
	for (int i = 0; i < LAYERS_MAX; i++) {
		layer = below(layer);
		if (!layer)
			break;
		number = number_at(BPF_CORE_READ(layer, f_inode));
		if (number)
			return number;
	}
	a = bpf_map_lookup_elem(&asked, &zero);
	if (!a)
		return 0;
	len = bpf_probe_read_kernel_str(a->path, sizeof(a->path), BPF_CORE_READ(dentry, d_name.name));
	entry.name = hash_of(a->path, len, 0);
	if (!bpf_map_lookup_elem(&names, &entry.name))
		return 0;
	parent = BPF_CORE_READ(dentry, d_parent);
	entry.directory = id_of(BPF_CORE_READ(parent, d_inode));
	which = bpf_map_lookup_elem(&entries, &entry);
	if (which)
		return *which;
	/* Kubernetes replaces all files of a volume by another directory `..DATE` beside the links to them. */
	bpf_probe_read_kernel(dots, 2, BPF_CORE_READ(parent, d_name.name));
	if (dots[0] == '.' && dots[1] == '.') {
		entry.directory = id_of(BPF_CORE_READ(parent, d_parent, d_inode));
		which = bpf_map_lookup_elem(&entries, &entry);
		if (which)
			return *which;
	}
	return number_by_path(a, given);
}

#endif
