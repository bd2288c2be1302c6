/* Which process, and from which it was forked: a key that was loaded before a fork lies at the same address after it. */
#ifndef KEYVIGIL_PROCESS_H
#define KEYVIGIL_PROCESS_H

#include "actor.h"

/* One program in one process: another after exec, as nothing of the memory is left then. */
struct who {
	__u64 started_ns;
	__u32 pid;
	__u32 exec;
};

/* Processes that hold keys, and from whom they have them; nobody (0) where they loaded them themselves. The parent may be long gone:
 * a daemon's is. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct who);
	__type(value, struct who);
} holders SEC(".maps");

static __always_inline struct who who_is(struct task_struct *task)
{
	struct who who = {
		.started_ns = BPF_CORE_READ(task, group_leader, start_boottime),
		.pid = BPF_CORE_READ(task, tgid),
		.exec = BPF_CORE_READ(task, self_exec_id),
	};

	return who;
}

SEC("raw_tracepoint/sched_process_fork")
int forked(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx->args[0], *child = (struct task_struct *)ctx->args[1];
	struct who from = who_is(parent), to;

	if (!bpf_map_lookup_elem(&holders, &from))
		return 0;
	to = who_is(child);
	/* A thread is the same process. */
	if (to.pid != from.pid)
		bpf_map_update_elem(&holders, &to, &from, BPF_ANY);
	return 0;
}

#endif
