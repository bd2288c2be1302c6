/* Who does it: read at the instant of the deed, as a process that reads a key and ends is gone before anybody can look. */
#ifndef KEYVIGIL_ACTOR_H
#define KEYVIGIL_ACTOR_H

#include "tables.h"

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* Appends the name at `from`, with its NUL: no kernel has one that is longer. The room behind what is used is always NAME_ROOM or more. */
static __always_inline void put_name(struct record *r, const void *from)
{
	__u32 used = r->used;
	long n;

	if (used >= TEXT_ROOM) {
		r->flags |= RECORD_CUT;
		return;
	}
	n = bpf_probe_read_kernel_str(&r->text[used & (TEXT_ROOM - 1)], NAME_ROOM, from);
	if (n > 0)
		r->used = used + n;
}

/* Appends the names of a path from the last to the first, across mounts, up to the root of the mount namespace. */
static __always_inline void put_path(struct record *r, struct path *path)
{
	struct dentry *dentry = BPF_CORE_READ(path, dentry), *parent;
	struct vfsmount *vfsmount = BPF_CORE_READ(path, mnt);
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt), *above;

	for (int i = 0; i < DEPTH_MAX; i++) {
		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			above = BPF_CORE_READ(mount, mnt_parent);
			if (above == mount)
				return;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return;
		put_name(r, BPF_CORE_READ(dentry, d_name.name));
		dentry = parent;
	}
	r->flags |= RECORD_CUT;
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *node)
{
	struct kernfs_node___renamed *renamed = (void *)node;

	if (bpf_core_field_exists(renamed->__parent))
		return BPF_CORE_READ(renamed, __parent);
	return BPF_CORE_READ(node, parent);
}

/* Appends the control group's path (version 2), from its last name to its first. */
static __always_inline void put_cgroup(struct record *r, struct task_struct *task)
{
	struct kernfs_node *node = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn), *parent;

	for (int i = 0; i < DEPTH_MAX; i++) {
		parent = kernfs_parent(node);
		if (!parent)
			return;
		put_name(r, BPF_CORE_READ(node, name));
		node = parent;
	}
	r->flags |= RECORD_CUT;
}

/* Fills all but what was done. */
static __always_inline void put_actor(struct record *r, __u32 kind)
{
	struct task_struct *task = current_task();
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	__u64 id = bpf_get_current_pid_tgid();

	r->kind = kind;
	r->flags = 0;
	r->at_ns = bpf_ktime_get_boot_ns();
	r->started_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	r->exe_ino = BPF_CORE_READ(exe, f_inode, i_ino);
	r->exe_dev = BPF_CORE_READ(exe, f_inode, i_sb, s_dev);
	r->generation = 0;
	r->mount_ns = 0;
	r->ino = 0;
	r->dev = 0;
	r->file = 0;
	r->pid = id >> 32;
	r->tid = id;
	r->parent = BPF_CORE_READ(task, real_parent, tgid);
	r->uid = bpf_get_current_uid_gid();
	r->login_uid = ~0;
	if (bpf_core_field_exists(task->loginuid))
		r->login_uid = BPF_CORE_READ(task, loginuid.val);
	r->result = 0;
	r->open_flags = 0;
	r->asked_len = 0;
	r->base_len = 0;
	r->used = 0;
	bpf_get_current_comm(r->comm, sizeof(r->comm));
	BPF_CORE_READ_INTO(&r->parent_comm, task, real_parent, comm);
	if (exe)
		put_path(r, __builtin_preserve_access_index(&exe->f_path));
	r->exe_len = r->used;
	if (r->flags & RECORD_CUT)
		r->flags = RECORD_CUT_EXE;
	put_cgroup(r, task);
	r->cgroup_len = r->used - r->exe_len;
	if (r->flags & RECORD_CUT)
		r->flags |= RECORD_CUT_CGROUP;
	if (r->flags)
		r->flags |= RECORD_CUT;
}

#endif
