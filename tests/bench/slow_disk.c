/*
 * A library for LD_PRELOAD. In PostgreSQL each fdatasync() takes 2 ms more, as
 * on the disk of a cloud.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd)
{
	static const struct timespec delay = { .tv_nsec = 2000000 };
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

	if (!real)
		abort();
	(void)nanosleep(&delay, NULL);
	return real(fd);
}
