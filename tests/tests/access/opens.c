/* Opens a file the way that is named and ends at once. opens HOW PATH [DIRECTORY]; the exit code is 0 where the file was opened. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Into a descriptor; into a place of the ring's own table; there, and nobody is told where it succeeds. */
static int by_uring(const char *path, const char *into)
{
	int none[4] = {-1, -1, -1, -1}, is_direct = strcmp(into, "descriptor") != 0, is_silent = !strcmp(into, "silent");
	struct io_uring_params p = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &p);
	if (ring < 0)
		return 77;
	char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(0, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *sqe = mmap(0, 4 * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_OPENAT;
	sqe->fd = AT_FDCWD;
	sqe->addr = (unsigned long)path;
	if (is_direct && syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, none, 4))
		return 77;
	if (is_direct)
		sqe->file_index = 3;
	if (is_silent)
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	*(unsigned *)(sq + p.sq_off.array) = 0;
	__sync_fetch_and_add((unsigned *)(sq + p.sq_off.tail), 1);
	if (syscall(SYS_io_uring_enter, ring, 1, !is_silent, IORING_ENTER_GETEVENTS, 0, 0) < 0)
		return 77;
	return ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res < 0;
}

static int by_handle(const char *path)
{
	struct { struct file_handle h; char room[128]; } handle;
	int mount, dir = open("/", O_RDONLY);
	char at[4096];
	handle.h.handle_bytes = 128;
	if (name_to_handle_at(AT_FDCWD, path, &handle.h, &mount, 0))
		return 77;
	snprintf(at, sizeof(at), "%s", path);
	*strrchr(at, '/') = 0;
	dir = open(at, O_RDONLY | O_DIRECTORY);
	return open_by_handle_at(dir, &handle.h, O_RDONLY) < 0;
}

#ifdef __x86_64__
/* As a program of 32 bits does; 77 where the kernel knows none. Addresses must fit. */
static int narrow(int call, unsigned first, unsigned second, unsigned third, unsigned fourth)
{
	int result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(call), "b"(first), "c"(second), "d"(third), "S"(fourth) : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static int by_narrow(const char *way, const char *path)
{
	static char low[4096];
	static unsigned long long what[3];
	int result = -ENOSYS;
	snprintf(low, sizeof(low), "%s", path);
	if (!strcmp(way, "open"))
		result = narrow(5, (unsigned long)low, O_RDONLY, 0, 0);
	if (!strcmp(way, "openat"))
		result = narrow(295, AT_FDCWD, (unsigned long)low, O_RDONLY, 0);
	if (!strcmp(way, "openat2"))
		result = narrow(437, AT_FDCWD, (unsigned long)low, (unsigned long)what, sizeof(what));
	return result == -ENOSYS ? 77 : result < 0;
}
#endif

int main(int argc, char **argv)
{
	struct stat st;
	const char *how = argv[1], *path = argv[2];
	if (!strcmp(how, "open"))
		_exit(syscall(SYS_open, path, O_RDONLY) < 0);
	if (!strcmp(how, "openat"))
		_exit(openat(open(argv[3], O_RDONLY | O_DIRECTORY), path, O_RDONLY) < 0);
	if (!strcmp(how, "openat2")) {
		unsigned long long what[3] = {0};
		_exit(syscall(SYS_openat2, AT_FDCWD, path, what, sizeof(what)) < 0);
	}
	if (!strcmp(how, "uring"))
		_exit(by_uring(path, argv[3]));
	if (!strcmp(how, "handle"))
		_exit(by_handle(path));
	if (!strcmp(how, "creat"))
		_exit(syscall(SYS_creat, path, 0600) < 0);
#ifdef __x86_64__
	if (!strcmp(how, "narrow"))
		_exit(by_narrow(argv[3], path));
#endif
	if (!strcmp(how, "path"))
		_exit(open(path, O_PATH) < 0);
	if (!strcmp(how, "stat"))
		_exit(stat(path, &st));
	/* Again and again until it is killed or so many times; those that failed are told. */
	if (!strcmp(how, "loop")) {
		int failed = 0;
		for (int i = atoi(argv[3]); i > 0; i--) {
			int fd = open(path, O_RDONLY);
			failed += fd < 0;
			close(fd);
			/* So that each is told for itself. */
			usleep(200);
		}
		_exit(failed != 0);
	}
	_exit(99);
}
