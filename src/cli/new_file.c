/*
 * Owns how the command line creates a file: under a temporary name, which a
 * link then makes final. Must not know what is in the file.
 */
#include "cli/new_file.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool new_file_sync_parent(const char *path)
{
	char *copy = xstrdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 &&
		  (fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP);

	if (fd >= 0)
		close(fd);
	free(copy);
	return ok;
}

static bool write_and_sync(int fd, const struct new_file *how,
			   const struct buf *text)
{
	return write_all(fd, text->data, text->length) &&
	       (!how->chown || fchown(fd, how->uid, how->gid) == 0) &&
	       fchmod(fd, how->mode) == 0 && fsync(fd) == 0;
}

bool new_file_create(const char *path, const struct new_file *how,
		     const struct buf *text)
{
	char *folder = xstrdup(path);
	/* The leading dot: a running receiver skips the file. */
	char *temporary = xasprintf("%s/.init.XXXXXX", dirname(folder));
	int fd = mkostemp(temporary, O_CLOEXEC);
	bool ok = fd >= 0 && write_and_sync(fd, how, text) &&
		  link(temporary, path) == 0;
	int error = errno;

	if (fd >= 0) {
		unlink(temporary);
		close(fd);
	}
	free(temporary);
	free(folder);
	errno = error;
	return ok && new_file_sync_parent(path);
}
