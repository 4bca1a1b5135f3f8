/*
 * A library for LD_PRELOAD. open() and unlink() of a path with "hang" in it do
 * not return, as on a disk that has gone away.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static void hang_if(const char *path)
{
	while (strstr(path, "hang"))
		sleep(60);
}

int unlink(const char *path)
{
	int (*real)(const char *) =
		(int (*)(const char *))dlsym(RTLD_NEXT, "unlink");

	hang_if(path);
	return real(path);
}

int open(const char *path, int flags, ...)
{
	int (*real)(const char *, int, ...) =
		(int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	hang_if(path);
	return real(path, flags, mode);
}
