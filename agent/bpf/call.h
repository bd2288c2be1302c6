/* Calls of cryptographic libraries: what is done how often with which key. One program serves all functions of a kind: the number of
 * the probe comes as its cookie, and what that function's arguments mean stands in `calls`, written by the helper. */
#ifndef KEYVIGIL_CALL_H
#define KEYVIGIL_CALL_H

#include "open.h"
#include "process.h"

#define CALLS_MAX 1024
#define NO_ARGUMENT 255
#define NO_OFFSET 0xffff
/* More files than two may be meant. */
#define FILE_AMBIGUOUS 0xffffffff
#define FORKS_MAX 6

enum call_flags {
	/* The key is what the thread opened last: the function has no lasting object. */
	CALL_OPENED = 1,
	/* Not counted where the key is unknown: the function serves keys of the moment as well. */
	CALL_KNOWN_ONLY = 2,
	/* Other libraries may do its work; what they do until it returns is counted with it. */
	CALL_ENCLOSES = 4,
	/* It may do another library's work itself. */
	CALL_SERVES = 8,
};

/* A probe. */
struct call {
	__u32 flags;
	/* The text of its library, from the instruction probed. A caller in there is the library itself, which may have been counted already. */
	__s32 text_low;
	__s32 text_high;
	/* Bytes that the function has pushed before the instruction. */
	__u32 pushed;
	/* Argument that holds the object, and one that must not be NULL: else it only asks for a length. */
	__u8 object;
	__u8 output;
	/* Argument that the object gets its key from. */
	__u8 source;
	__u8 pad;
	/* Where in what the argument points to the next pointer lies, twice at most; where in the key its type lies. */
	__u16 hop[2];
	__u16 type;
	/* Where the number of references lies; in a TLS connection: version, whether resumed, whether server, state. */
	__u16 references;
	__u16 version;
	__u16 resumed;
	__u16 server;
	__u16 state;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CALLS_MAX);
	__type(key, __u32);
	__type(value, struct call);
} calls SEC(".maps");

/* How often each probe was reached: what it costs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CALLS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} reached SEC(".maps");

/* Who did what with which key; how often is the value. */
struct use {
	__u64 started_ns;
	__u64 first_generation;
	__u64 second_generation;
	__u32 pid;
	__u32 call;
	__u32 first;
	__u32 second;
	/* Type of the key as the library numbers it; of a handshake the version. */
	__s32 type;
	/* Of a handshake: 1 server, 2 resumed. */
	__u32 detail;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct use);
	__type(value, __u64);
} uses SEC(".maps");

/* Processes that were told, by the instant of their start. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} workers SEC(".maps");

struct held_object {
	struct who who;
	__u64 object;
};

/* Files, and in which state each was when it was opened. */
struct binding {
	__u32 first;
	__u32 second;
	__u64 first_generation;
	__u64 second_generation;
};

/* What a process's key is, and what lay at that address before: a process that was forked meanwhile goes on with that. */
struct bound_object {
	struct binding now;
	struct binding before;
	__u64 now_ns;
	__u64 before_ns;
};

/* Which file the key in memory came from. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct held_object);
	__type(value, struct bound_object);
} bindings SEC(".maps");

/* The call that was counted last, by where it was made: what a library calls to carry it out is the same use. */
struct called {
	__u64 stack;
	__u64 from;
	__u32 call;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct called);
} last_call SEC(".maps");

/* Where the stack of a thread stood as it began a call that encloses others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} enclosing SEC(".maps");

/* Each argument goes through a register of its own: else the compiler makes a computed offset into the context of it, which the
 * verifier refuses. */
#define ARGUMENT(ctx, n)                                  \
	({                                                \
		__u64 value_ = PT_REGS_PARM##n(ctx);      \
		asm volatile("" : "+r"(value_));          \
		value_;                                   \
	})

#if defined(__TARGET_ARCH_x86) && !defined(PT_REGS_PARM6)
#define PT_REGS_PARM6(x) ((x)->r9)
#elif defined(__TARGET_ARCH_arm64) && !defined(PT_REGS_PARM6)
#define PT_REGS_PARM6(x) (((struct user_pt_regs *)(x))->regs[5])
#endif

static __always_inline __u64 argument(struct pt_regs *ctx, __u32 n)
{
	__u64 value = 0;

	if (n == 0)
		value = ARGUMENT(ctx, 1);
	else if (n == 1)
		value = ARGUMENT(ctx, 2);
	else if (n == 2)
		value = ARGUMENT(ctx, 3);
	else if (n == 3)
		value = ARGUMENT(ctx, 4);
	else if (n == 4)
		value = ARGUMENT(ctx, 5);
	else if (n == 5)
		value = ARGUMENT(ctx, 6);
	return value;
}

static __always_inline __u64 user_u64(__u64 at)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)at);
	return value;
}

static __always_inline __s32 user_s32(__u64 at, __u16 offset)
{
	__s32 value = 0;

	if (offset != NO_OFFSET)
		bpf_probe_read_user(&value, sizeof(value), (void *)(at + offset));
	return value;
}

#if defined(__TARGET_ARCH_x86)
#define BREAKPOINT 1
#else
#define BREAKPOINT 4
#endif
#define SPOT_CODE 16

/* Where a probe was reached: how far into a page of memory, which is as in the file, and what stands behind the breakpoint. */
struct spot {
	__u64 page_offset;
	char code[SPOT_CODE];
};

/* Kernels before 5.15 do not tell a program which probe it serves. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CALLS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct spot);
	__type(value, __u32);
} spots SEC(".maps");

static __always_inline __u32 number_of_call(struct pt_regs *ctx)
{
	struct spot spot = { .page_offset = PT_REGS_IP(ctx) & 0xfff };
	__u32 *number;

	if (HAS_HELPER(get_attach_cookie))
		return bpf_get_attach_cookie(ctx);
	bpf_probe_read_user(spot.code, sizeof(spot.code), (void *)(PT_REGS_IP(ctx) + BREAKPOINT));
	number = bpf_map_lookup_elem(&spots, &spot);
	if (number)
		return *number;
	/* Its page went away just now. */
	count_lost(LOST_COUNT);
	return CALLS_MAX;
}

/* The probe, and one more to what it was reached. */
static __always_inline struct call *the_call(struct pt_regs *ctx, __u32 *number)
{
	__u64 *n;

	*number = number_of_call(ctx);
	n = bpf_map_lookup_elem(&reached, number);
	if (n)
		__sync_fetch_and_add(n, 1);
	return bpf_map_lookup_elem(&calls, number);
}

/* Whether the call that was counted last still goes on, deeper in the stack: the address that it returns to lies where it was left. */
static __always_inline int goes_on(struct called *before, __u64 stack)
{
	if (before->stack <= stack)
		return 0;
#if defined(__TARGET_ARCH_arm64)
	/* It is in a register first, and then where the function likes. */
	return 1;
#else
	return user_u64(before->stack) == before->from;
#endif
}

/* Whether a call that was counted goes on through this one, or jumped here. A library's own functions that are not counted (those that
 * sign a certificate, say) call the counted ones as well: so a caller within the library alone is no sign of that. */
static __always_inline int is_inner(struct pt_regs *ctx, struct call *call, __u32 number)
{
	__u64 thread = bpf_get_current_pid_tgid(), stack = PT_REGS_SP(ctx) + call->pushed, from, *encloses;
	struct called *before, now = { .stack = stack, .call = number };
	__s64 away;
	struct call *outer;

#if defined(__TARGET_ARCH_arm64)
	from = PT_REGS_RET(ctx);
#else
	from = user_u64(stack);
#endif
	encloses = bpf_map_lookup_elem(&enclosing, &thread);
	if (encloses && stack < *encloses)
		return 1;
	before = bpf_map_lookup_elem(&last_call, &thread);
	if (before && goes_on(before, stack)) {
		away = from - PT_REGS_IP(ctx);
		if (away >= call->text_low && away < call->text_high)
			return 1;
		number = before->call;
		outer = bpf_map_lookup_elem(&calls, &number);
		if (outer && (call->flags & CALL_SERVES) && !(outer->flags & CALL_SERVES))
			return 1;
	}
	if (before && before->stack == stack && before->from == from && before->call != now.call)
		return 1;
	now.from = from;
	bpf_map_update_elem(&last_call, &thread, &now, BPF_ANY);
	if (call->flags & CALL_ENCLOSES)
		bpf_map_update_elem(&enclosing, &thread, &stack, BPF_ANY);
	return 0;
}

/* The object that an argument leads to. */
static __always_inline __u64 object_of(struct pt_regs *ctx, struct call *call)
{
	__u64 object = argument(ctx, call->object);

	if (object && call->hop[0] != NO_OFFSET)
		object = user_u64(object + call->hop[0]);
	if (object && call->hop[1] != NO_OFFSET)
		object = user_u64(object + call->hop[1]);
	return object;
}

/* Which file the object came from, also where it was loaded before a fork; false where nothing is known of it. */
static __always_inline int bound(__u64 object, struct binding *to)
{
	struct held_object held = { .who = who_is(current_task()), .object = object };
	__u64 until = ~0ULL;
	struct bound_object *found;
	struct who *from;

	for (int i = 0; i < FORKS_MAX; i++) {
		found = bpf_map_lookup_elem(&bindings, &held);
		if (found) {
			if (found->now_ns <= until)
				*to = found->now;
			else if (found->before_ns <= until)
				*to = found->before;
			return 1;
		}
		from = bpf_map_lookup_elem(&holders, &held.who);
		if (!from || !from->pid)
			return 0;
		/* What the parent does with its memory later is not seen by the child. */
		if (held.who.started_ns < until)
			until = held.who.started_ns;
		held.who = *from;
	}
	return 0;
}

static __always_inline void bind(__u64 object, struct binding *to)
{
	struct held_object held = { .who = who_is(current_task()), .object = object };
	struct bound_object fresh = { .now = *to, .now_ns = bpf_ktime_get_boot_ns() }, *old;
	struct who nobody = {};

	bpf_map_update_elem(&holders, &held.who, &nobody, BPF_NOEXIST);
	old = bpf_map_lookup_elem(&bindings, &held);
	if (!old) {
		bound(object, &fresh.before);
	} else if (old->now.first) {
		fresh.before = old->now;
		fresh.before_ns = old->now_ns;
	} else {
		/* Freed in between; children have what lay there before. */
		fresh.before = old->before;
		fresh.before_ns = old->before_ns;
	}
	if (bpf_map_update_elem(&bindings, &held, &fresh, BPF_ANY))
		count_lost(LOST_BINDING);
}

/* What the thread opened and has not loaded yet; after this, nothing. */
static __always_inline struct binding take_opened(struct opened *seen)
{
	struct binding to = {
		.first = seen->first,
		.second = seen->second,
		.first_generation = seen->first_generation,
		.second_generation = seen->second_generation,
	};

	if (seen->many) {
		to.first = to.second = FILE_AMBIGUOUS;
		to.first_generation = to.second_generation = 0;
	}
	seen->first = seen->second = seen->many = 0;
	seen->first_generation = seen->second_generation = 0;
	return to;
}

static __always_inline int loaded(__u64 object)
{
	struct opened *seen = opened_here();
	struct binding to = {}, before = {};

	if (!object)
		return 0;
	if (seen) {
		/* The outer of two functions that load returns what the inner one did. */
		if (!seen->first && seen->loaded == object)
			return 0;
		to = take_opened(seen);
		seen->loaded = object;
	}
	/* Also where it came from nowhere that we know: whatever lay at this address before is gone. */
	if (to.first || bound(object, &before))
		bind(object, &to);
	return 0;
}

/* A function that returns a key that it read. */
SEC("uretprobe")
int key_returned(struct pt_regs *ctx)
{
	__u32 number;

	/* Older kernels tell by the place, and this is another. */
	if (HAS_HELPER(get_attach_cookie))
		the_call(ctx, &number);
	return loaded(PT_REGS_RC(ctx));
}

/* A function that fills a key that it is given. */
SEC("uprobe")
int key_filled(struct pt_regs *ctx)
{
	__u32 number;
	struct call *call = the_call(ctx, &number);

	if (!call || (call->output != NO_ARGUMENT && !argument(ctx, call->output)))
		return 0;
	return loaded(argument(ctx, call->object));
}

/* A function that makes one object of another: both are one key. */
SEC("uprobe")
int key_passed(struct pt_regs *ctx)
{
	__u32 number;
	struct call *call = the_call(ctx, &number);
	struct binding from = {};

	if (call && bound(argument(ctx, call->source), &from))
		bind(argument(ctx, call->object), &from);
	return 0;
}

/* A function that gives a reference back: the key is gone with the last one. */
SEC("uprobe")
int key_freed(struct pt_regs *ctx)
{
	__u32 number;
	struct call *call = the_call(ctx, &number);
	struct binding gone = {}, from = {};
	__u64 object;

	if (!call)
		return 0;
	object = argument(ctx, call->object);
	if (bound(object, &from) && from.first && user_s32(object, call->references) <= 1)
		bind(object, &gone);
	return 0;
}

static __always_inline void tell_worker(__u64 started_ns)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *told = bpf_map_lookup_elem(&workers, &pid);
	struct record *r;

	if (told && *told == started_ns)
		return;
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		count_lost(LOST_RECORD);
		return;
	}
	put_actor(r, RECORD_WORKER);
	bpf_ringbuf_submit(r, 0);
	bpf_map_update_elem(&workers, &pid, &started_ns, BPF_ANY);
}

static __always_inline int count(struct use *use)
{
	__u64 one = 1, *n;

	use->started_ns = BPF_CORE_READ(current_task(), group_leader, start_boottime);
	use->pid = bpf_get_current_pid_tgid() >> 32;
	n = bpf_map_lookup_elem(&uses, use);
	if (n) {
		__sync_fetch_and_add(n, 1);
		return 0;
	}
	tell_worker(use->started_ns);
	if (!bpf_map_update_elem(&uses, use, &one, BPF_NOEXIST))
		return 0;
	/* Another thread was first, or there is no room. */
	n = bpf_map_lookup_elem(&uses, use);
	if (n)
		__sync_fetch_and_add(n, 1);
	else
		count_lost(LOST_COUNT);
	return 0;
}

/* A function that uses a key. */
SEC("uprobe")
int key_used(struct pt_regs *ctx)
{
	__u32 number;
	struct call *call = the_call(ctx, &number);
	struct binding from = {};
	struct use use = {};
	struct opened *seen;
	__u64 object;

	if (!call || (call->output != NO_ARGUMENT && !argument(ctx, call->output)) || is_inner(ctx, call, number))
		return 0;
	use.call = number;
	if (call->flags & CALL_OPENED) {
		seen = opened_here();
		if (seen)
			from = take_opened(seen);
	} else if (call->object != NO_ARGUMENT) {
		object = object_of(ctx, call);
		use.type = user_s32(object, call->type);
		bound(object, &from);
	}
	if (!from.first && (call->flags & CALL_KNOWN_ONLY))
		return 0;
	use.first = from.first;
	use.second = from.second;
	use.first_generation = from.first_generation;
	use.second_generation = from.second_generation;
	return count(&use);
}

/* The end of a function that encloses others. */
SEC("uretprobe")
int key_done(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), stack = PT_REGS_SP(ctx), *encloses;

	/* The return has taken its address off the stack; an inner one of the same kind leaves the outer as it is. */
	encloses = bpf_map_lookup_elem(&enclosing, &thread);
	if (encloses && stack >= *encloses)
		bpf_map_delete_elem(&enclosing, &thread);
	return 0;
}

SEC("raw_tracepoint/sched_process_exit")
int ended(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32;
	struct record *r;

	if (pid != (__u32)id || !bpf_map_lookup_elem(&workers, &pid))
		return 0;
	bpf_map_delete_elem(&workers, &pid);
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		count_lost(LOST_RECORD);
		return 0;
	}
	put_actor(r, RECORD_ENDED);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

#endif
