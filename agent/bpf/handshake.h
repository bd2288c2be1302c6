/* TLS handshakes that end well, told by the function that drives them. */
#ifndef KEYVIGIL_HANDSHAKE_H
#define KEYVIGIL_HANDSHAKE_H

#include "call.h"

#define DETAIL_SERVER 1
#define DETAIL_RESUMED 2
/* OpenSSL's TLS_ST_OK: the connection stands, there is nothing left to do. */
#define STATE_DONE 1

struct begun {
	__u64 connection;
	__u32 call;
	__u32 pad;
};

/* Connections on which a thread is at work. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct begun);
} begun SEC(".maps");

SEC("uprobe")
int handshake_called(struct pt_regs *ctx)
{
	__u32 number;
	struct call *call = the_call(ctx, &number);
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun now = { .call = number };

	if (!call)
		return 0;
	now.connection = argument(ctx, call->object);
	if (call->state != NO_OFFSET && user_s32(now.connection, call->state) == STATE_DONE)
		return 0;
	bpf_map_update_elem(&begun, &thread, &now, BPF_ANY);
	return 0;
}

SEC("uretprobe")
int handshake_returned(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct begun *before = bpf_map_lookup_elem(&begun, &thread);
	__u64 connection;
	struct call *call;
	struct use use = {};

	if (!before)
		return 0;
	connection = before->connection;
	use.call = before->call;
	bpf_map_delete_elem(&begun, &thread);
	call = bpf_map_lookup_elem(&calls, &use.call);
	/* OpenSSL says 1, GnuTLS 0: what is success stands in `output`. */
	if (!call || (__s32)PT_REGS_RC(ctx) != call->output)
		return 0;
	use.type = user_s32(connection, call->version);
	if (user_s32(connection, call->server))
		use.detail |= DETAIL_SERVER;
	if (user_s32(connection, call->resumed))
		use.detail |= DETAIL_RESUMED;
	return count(&use);
}

#endif
