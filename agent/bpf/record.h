/* What the helper reads from the ring, and what it writes into the tables: agent/src/probe/record.rs has the same layouts, and a
 * test compares the sizes. */
#ifndef KEYVIGIL_RECORD_H
#define KEYVIGIL_RECORD_H

#include "kernel.h"

/* Text of a record, and the most of one name in a path; a power of two, for the verifier. */
#define TEXT_ROOM 1024
#define NAME_ROOM 256
/* The most of a path that is read where it was asked for; more than a name. */
#define PATH_READ 512
/* Parts of a path that are walked. */
#define DEPTH_MAX 24

enum record_kind {
	RECORD_OPENED = 1,
	/* Denied, or only known to be asked for. */
	RECORD_ASKED = 2,
	/* A process did its first operation with a key. */
	RECORD_WORKER = 3,
	/* A process that had done operations has ended. */
	RECORD_ENDED = 4,
};

enum record_flags {
	/* A text did not fit. */
	RECORD_CUT = 1,
	/* It is the path of the program, and what is missing of it is its beginning. */
	RECORD_CUT_EXE = 2,
	/* Or that of the control group. */
	RECORD_CUT_CGROUP = 4,
	/* Or the path that was asked for, and its end is missing. */
	RECORD_CUT_ASKED = 8,
};

struct record {
	__u32 kind;
	__u32 flags;
	__u64 at_ns;
	/* Start of the process: with its id, who it is. */
	__u64 started_ns;
	__u64 ino;
	/* The program. */
	__u64 exe_ino;
	/* Which state of the file, of an open. */
	__u64 generation;
	__u32 exe_dev;
	/* Mount namespace, of a denied open whose thread has another root than the helper: its paths are not the host's. */
	__u32 mount_ns;
	__u32 dev;
	__u32 file;
	__u32 pid;
	__u32 tid;
	__u32 parent;
	__u32 uid;
	__u32 login_uid;
	__s32 result;
	__u32 open_flags;
	/* Lengths of the texts, which follow one another. Paths are names from the last to the first, each ended by NUL. */
	__u16 exe_len;
	__u16 cgroup_len;
	__u16 asked_len;
	__u16 base_len;
	/* How much of the text is used. Kept here and not in a variable: what is read back from memory is any number to the verifier, so
	 * that it need not follow each way through the loops that write. */
	__u32 used;
	char comm[16];
	char parent_comm[16];
	char text[TEXT_ROOM + PATH_READ];
};

/* Which file: device and inode as the kernel has them. Of several that share both (subvolumes of btrfs) the first has version 0, the others
 * their own. */
struct file_id {
	__u64 ino;
	__u32 dev;
	__u32 version;
};

/* A followed file. A number of an inode is used again; its version then is another. 0 where that is not known. */
struct followed {
	__u32 number;
	__u32 version;
};

/* Which name in which directory. */
struct entry_id {
	struct file_id directory;
	__u64 name;
};

#endif
