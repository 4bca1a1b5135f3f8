/*
 * Owns how a verb with --output writes its file: a temporary file in the same
 * folder, fsync(), rename(). Must not know what is printed. A child process
 * prints, because root becomes postgres to ask the database, and could not
 * rename afterwards.
 */
#include "cli/replace_file.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Prints in the child process. Returns the exit code for print_into(). */
static int print_to(const struct verb *v, int fd,
		    int (*print)(const struct verb *v))
{
	int code = EX_CANTCREAT;

	if (dup2(fd, STDOUT_FILENO) >= 0)
		code = print(v);
	if (code == EX_CANTCREAT || fflush(stdout) != 0) {
		cli_error(v, "can't write the file: %s", strerror(errno));
		code = EX_CANTCREAT;
	}
	return code;
}

/*
 * Prints into fd. Returns print()'s exit code; EX_CANTCREAT if that failed,
 * which is reported.
 */
static int print_into(const struct verb *v, int fd,
		      int (*print)(const struct verb *v))
{
	pid_t child;
	int status = 0;

	fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(print_to(v, fd, print));
	while (child > 0 && waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			child = -1;
	}
	if (child > 0 && WIFEXITED(status))
		return WEXITSTATUS(status);
	cli_error(v, "can't run a process that prints: %s",
		  child > 0 ? "it was killed" : strerror(errno));
	return EX_CANTCREAT;
}

/* Makes the rename durable. A file system without that is left alone. */
static void sync_folder(const char *path)
{
	char *folder = xstrdup(path);
	char *slash = strrchr(folder, '/');
	int fd;

	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		(void)fsync(fd);
		close(fd);
	}
	free(folder);
}

int cli_replace_file(const struct verb *v, const char *path, mode_t mode,
		     int (*print)(const struct verb *v))
{
	char *temporary = xasprintf("%s.XXXXXX", path);
	int fd = mkostemp(temporary, O_CLOEXEC);
	int code = fd >= 0 ? print_into(v, fd, print) : EX_CANTCREAT;

	if (fd < 0 ||
	    (code != EX_CANTCREAT && (fchmod(fd, mode) < 0 || fsync(fd) < 0 ||
				      rename(temporary, path) < 0))) {
		cli_error(v, "can't write %s: %s", path, strerror(errno));
		code = EX_CANTCREAT;
	}
	if (fd >= 0 && code == EX_CANTCREAT)
		(void)unlink(temporary);
	else if (fd >= 0)
		sync_folder(path);
	if (fd >= 0)
		close(fd);
	free(temporary);
	return code;
}
