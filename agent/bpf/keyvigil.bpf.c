/* The programs that run in the kernel: who opens files with private keys, and what is done with the keys in them.
 * `cargo xtask bpf` compiles them; what comes of it lies beside this file, so that the agent builds without clang. */
#include "handshake.h"
#include "uring.h"
#include "walk.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Which sources this is of; `cargo xtask bpf` says. */
char SOURCES_HASH[] SEC("sources") = SOURCES;
