/*
 * Owns the files in refused/. Must not know what they are for, nor the
 * files of new/. Any thread may call these functions; the drainer, which holds
 * the spool's lock, is the only one that writes.
 */
#include "store/spool_note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

enum { NOTE_MAX = 4096 /* bytes */ };

static char *path_of(const struct spool_disk *d, const char *name)
{
	return xasprintf("%s/refused/%s", d->path, name);
}

bool spool_note_read(const struct spool_disk *d, const char *name,
		     struct spool_refusal *refusal)
{
	char *path = path_of(d, name);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct buf text = { 0 };
	struct stat st;
	bool found;

	free(path);
	if (fd < 0)
		return false;
	found = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		read_all(fd, NOTE_MAX, &text) &&
		spool_refusal_parse(text.data, refusal);
	if (found)
		refusal->retry_at = spool_time(&st.st_mtim);
	close(fd);
	buf_free(&text);
	return found;
}

bool spool_note_write(const struct spool_disk *d, const char *name,
		      const struct spool_refusal *refusal)
{
	char *path = path_of(d, name);
	int fd = open(path,
		      O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK |
			      O_CLOEXEC,
		      0600);
	const struct timespec retry_at = {
		.tv_sec = refusal->retry_at / 1000000,
		.tv_nsec = refusal->retry_at % 1000000 * 1000,
	};
	const struct timespec times[2] = { retry_at, retry_at };
	struct buf text = { 0 };
	bool ok;

	spool_refusal_render(refusal, &text);
	ok = fd >= 0 && write_all(fd, text.data, text.length) &&
	     futimens(fd, times) == 0;
	if (fd >= 0)
		close(fd);
	buf_free(&text);
	free(path);
	return ok;
}

bool spool_note_remove(const struct spool_disk *d, const char *name)
{
	char *path = path_of(d, name);
	bool ok = unlink(path) == 0 || errno == ENOENT;

	free(path);
	return ok;
}
