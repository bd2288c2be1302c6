/* The few fields of the kernel that are read. Offsets are not ours: the loader sets them by the running kernel's type information
 * (CO-RE), so only names and nesting must be right. */
#ifndef KEYVIGIL_KERNEL_H
#define KEYVIGIL_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#if defined(__TARGET_ARCH_arm64)
/* Compiled on any machine: not by that machine's headers. */
#define _UAPI__ASM_PTRACE_H
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
#endif
#include <linux/ptrace.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Whether the running kernel has a helper function. */
#define HAS_HELPER(name) bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_##name)

#define KERNEL_TYPE __attribute__((preserve_access_index))

struct qstr {
	const unsigned char *name;
} KERNEL_TYPE;

struct dentry;

struct super_block {
	struct dentry *s_root;
	unsigned long s_magic;
	__u32 s_dev;
} KERNEL_TYPE;

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
} KERNEL_TYPE;

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	__u32 i_generation;
	__s64 i_size;
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
} KERNEL_TYPE;

/* Since Linux 6.6 and 6.7. */
struct inode___mangled {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
} KERNEL_TYPE;

/* Since Linux 6.11. */
struct inode___split {
	__s64 i_mtime_sec;
	__s64 i_ctime_sec;
	__u32 i_mtime_nsec;
	__u32 i_ctime_nsec;
} KERNEL_TYPE;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
} KERNEL_TYPE;

struct vfsmount {
	struct dentry *mnt_root;
} KERNEL_TYPE;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} KERNEL_TYPE;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} KERNEL_TYPE;

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_flags;
	void *private_data;
} KERNEL_TYPE;

struct filename {
	const char *name;
} KERNEL_TYPE;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} KERNEL_TYPE;

struct files_struct {
	struct fdtable *fdt;
} KERNEL_TYPE;

struct fs_struct {
	struct path root;
	struct path pwd;
} KERNEL_TYPE;

struct mm_struct {
	struct file *exe_file;
} KERNEL_TYPE;

typedef struct {
	__u32 val;
} kuid_t;

struct kernfs_node {
	const char *name;
	struct kernfs_node *parent;
} KERNEL_TYPE;

/* Since Linux 6.15. */
struct kernfs_node___renamed {
	struct kernfs_node *__parent;
} KERNEL_TYPE;

struct cgroup {
	struct kernfs_node *kn;
} KERNEL_TYPE;

struct ns_common {
	__u32 inum;
} KERNEL_TYPE;

struct mnt_namespace {
	struct ns_common ns;
} KERNEL_TYPE;

struct nsproxy {
	struct mnt_namespace *mnt_ns;
} KERNEL_TYPE;

struct css_set {
	struct cgroup *dfl_cgrp;
} KERNEL_TYPE;

struct task_struct {
	int tgid;
	__u64 start_boottime;
	__u64 self_exec_id;
	kuid_t loginuid;
	char comm[16];
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
} KERNEL_TYPE;

#endif
