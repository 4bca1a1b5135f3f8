#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"

static void need(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	abort();
}

static bool in_memory(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) < 0 || fs.f_type == TMPFS_MAGIC ||
	       fs.f_type == RAMFS_MAGIC;
}

static void make_in(struct scratch *s, const char *place)
{
	s->tmpfs = in_memory(place);
	s->path = xasprintf("%s/humcli-test-XXXXXX", place);
	need(mkdtemp(s->path), s->path);
	/* A test may continue as another user. */
	need(chmod(s->path, 0755) == 0, s->path);
}

void scratch_make(struct scratch *s)
{
	const char *const places[] = { getenv("TMPDIR"), "/tmp", "/var/tmp",
				       "." };
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(places) &&
	       (!places[i] || in_memory(places[i])))
		i++;
	make_in(s, places[i]);
}

bool scratch_make_in_memory(struct scratch *s)
{
	if (!in_memory("/dev/shm") || access("/dev/shm", W_OK) != 0)
		return false;
	make_in(s, "/dev/shm");
	return true;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void scratch_remove(struct scratch *s)
{
	need(nftw(s->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, s->path);
	free(s->path);
	s->path = NULL;
}

char *scratch_path(const struct scratch *s, const char *name)
{
	return xasprintf("%s/%s", s->path, name);
}

void scratch_write_bytes(const struct scratch *s, const char *name, mode_t mode,
			 const void *data, size_t length)
{
	char *path = scratch_path(s, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	need(fd >= 0 && write_all(fd, data, length) && fchmod(fd, mode) == 0,
	     path);
	close(fd);
	free(path);
}

void scratch_write(const struct scratch *s, const char *name, mode_t mode,
		   const char *text)
{
	scratch_write_bytes(s, name, mode, text, strlen(text));
}

void scratch_mkdir(const struct scratch *s, const char *name, mode_t mode)
{
	char *path = scratch_path(s, name);

	need(mkdir(path, 0700) == 0 && chmod(path, mode) == 0, path);
	free(path);
}

void scratch_symlink(const struct scratch *s, const char *target,
		     const char *name)
{
	char *path = scratch_path(s, name);

	need(symlink(target, path) == 0, path);
	free(path);
}

void scratch_unlink(const struct scratch *s, const char *name)
{
	char *path = scratch_path(s, name);

	need(remove(path) == 0, path);
	free(path);
}

void scratch_rename(const struct scratch *s, const char *from, const char *to)
{
	char *old = scratch_path(s, from), *new = scratch_path(s, to);

	need(rename(old, new) == 0, old);
	free(old);
	free(new);
}

char *scratch_read(const struct scratch *s, const char *name)
{
	char *path = scratch_path(s, name);
	struct buf text = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	need(fd >= 0 || errno == ENOENT, path);
	if (fd >= 0) {
		need(read_all(fd, 1 << 20, &text), path);
		close(fd);
	}
	buf_add(&text, "", 0);
	free(path);
	return text.data;
}

size_t count_of(const char *text, const char *needle)
{
	size_t count = 0;

	while ((text = strstr(text, needle))) {
		count++;
		text += strlen(needle);
	}
	return count;
}
