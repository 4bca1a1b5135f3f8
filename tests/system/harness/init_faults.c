/*
 * A library for LD_PRELOAD. With NO_HASH in the environment no password can be
 * hashed. SYNCED names a file to which the path of each synced folder is added.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct pg_conn;

char *PQencryptPasswordConn(struct pg_conn *conn, const char *password,
			    const char *user, const char *algorithm)
{
	char *(*real)(struct pg_conn *, const char *, const char *,
		      const char *) =
		(char *(*)(struct pg_conn *, const char *, const char *,
			   const char *))dlsym(RTLD_NEXT,
					       "PQencryptPasswordConn");

	return getenv("NO_HASH") ? NULL : real(conn, password, user, algorithm);
}

int fsync(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	char link[64], path[PATH_MAX] = "";
	struct stat st;

	if (getenv("SYNCED") && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		FILE *log = fopen(getenv("SYNCED"), "a");

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, path, sizeof(path) - 1) > 0 && log)
			fprintf(log, "%s\n", path);
		if (log)
			fclose(log);
	}
	return real(fd);
}
