/*
 * A library for LD_PRELOAD. System calls fail as on a file system that lacks
 * something. ODD_FILE_SYSTEM lists them with their errno: "linkat=1 flock=37".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failure(const char *call)
{
	const char *at = strstr(getenv("ODD_FILE_SYSTEM"), call);

	return at ? atoi(at + strlen(call)) : 0;
}

static int result(int error)
{
	errno = error;
	return -1;
}

int linkat(int old_fd, const char *old, int new_fd, const char *new, int flags)
{
	int error = failure("linkat=");

	return error ? result(error)
		     : (int)syscall(SYS_linkat, old_fd, old, new_fd, new,
				    flags);
}

int renameat2(int old_fd, const char *old, int new_fd, const char *new,
	      unsigned flags)
{
	int error = flags ? failure("renameat2=") : 0;

	return error ? result(error)
		     : (int)syscall(SYS_renameat2, old_fd, old, new_fd, new,
				    flags);
}

/* Fails for folders alone. */
int fsync(int fd)
{
	int error = failure("fsync=");
	struct stat st;

	return error && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)
		       ? result(error)
		       : (int)syscall(SYS_fsync, fd);
}

int flock(int fd, int operation)
{
	int error = failure("flock=");

	return error ? result(error) : (int)syscall(SYS_flock, fd, operation);
}
