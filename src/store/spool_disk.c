/*
 * Owns the order of system calls by which a file of the spool survives a crash.
 * spool_folders.c makes and syncs the folders. Must not know what is in a
 * file, and counts nothing.
 *
 * A file is written and synced in tmp/, and linked into new/, which is synced
 * last. Every other file system has a way around:
 *   no hard links: the file is renamed;
 *   new/ or failed/ is a mount: the file is written in its hidden folder .tmp/;
 *   no lock is to be had: done without, and a warning says so once.
 * Any thread and any number of processes may call these functions at a time.
 */
#include "store/spool_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

enum { COPY_BYTES = 1 << 20 };

static const char trial_name[] = ".trial";

/* Putting. */

/* Returns a new name in a folder. The caller frees it. */
static char *tmp_name(struct spool_disk *d, const char *folder)
{
	return xasprintf("%s/%lld.%ld.%u", folder, (long long)wall_clock_us(),
			 (long)getpid(), atomic_fetch_add(&d->serial, 1));
}

/* Returns the hidden folder .tmp/ of a folder, which it makes. */
static char *own_tmp(int base, const char *folder)
{
	char *path = xasprintf("%s/.tmp", folder);

	/* If that fails, so does the file. */
	(void)mkdirat(base, path, 0700);
	return path;
}

/* Makes a file that remove_if_stale() leaves alone while it is open. */
static int create_tmp(int base, const char *name)
{
	int fd = openat(base, name,
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			0600);

	if (fd >= 0)
		(void)flock(fd, LOCK_EX | LOCK_NB);
	return fd;
}

static bool is_free(int base, const char *name)
{
	struct stat st;

	if (fstatat(base, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		errno = EEXIST;
	return errno == ENOENT;
}

/* Renames a file to a name that is free. Returns false with errno set. */
static bool rename_to_free(int base, const char *old, const char *new)
{
	if (renameat2(base, old, base, new, RENAME_NOREPLACE) == 0)
		return true;
	if (errno == EEXIST)
		return false;
	/* The flag may be unknown. Files of one name have the same content. */
	return is_free(base, new) && renameat(base, old, base, new) == 0;
}

/*
 * Gives a file of a tmp/ its name if that is free. The old name may be left.
 * Returns false with errno set. A rename is tried whatever link() says, because
 * each file system without hard links has an error of its own for that.
 */
static bool give_name(struct spool_disk *d, int base, const char *old,
		      const char *new)
{
	if (linkat(base, old, base, new, 0) == 0)
		return true;
	if (errno == EEXIST || !rename_to_free(base, old, new))
		return false;
	atomic_store(&d->no_links, true);
	return true;
}

/*
 * Writes a file in the folder tmp, and gives it its final name. *step says what
 * fails. Returns true if it did; false with errno set: EXDEV if the two are on
 * different file systems.
 */
static bool put_file(struct spool_disk *d, int base, const char *tmp_folder,
		     const char *target, const struct buf *text,
		     const char **step)
{
	char *tmp = tmp_name(d, tmp_folder);
	int fd = create_tmp(base, tmp), saved;
	bool ok = fd >= 0 && write_all(fd, text->data, text->length) &&
		  fsync(fd) == 0;

	*step = "write a file";
	if (ok) {
		*step = "link a file";
		ok = give_name(d, base, tmp, target);
	}
	saved = errno;
	if (fd >= 0)
		(void)unlinkat(base, tmp, 0);
	/* Some file systems tell here that there was no room. */
	if (fd >= 0 && close(fd) < 0 && ok) {
		ok = false;
		saved = errno;
	}
	free(tmp);
	errno = saved;
	return ok;
}

/* Puts a file into a folder, and syncs that; *step says what fails. */
static bool put(struct spool_disk *d, int base, const char *tmp,
		const char *folder, const char *name, const struct buf *text,
		const char **step)
{
	char *target = xasprintf("%s/%s", folder, name);
	bool crosses = atomic_load(&d->own_mount);
	bool ok = !crosses && put_file(d, base, tmp, target, text, step);

	if (!ok && (crosses || errno == EXDEV)) {
		char *own = own_tmp(base, folder);

		atomic_store(&d->own_mount, true);
		ok = put_file(d, base, own, target, text, step);
		free(own);
	}
	if (ok) {
		*step = "sync a folder";
		ok = spool_folders_sync(d, base, folder) &&
		     spool_folders_sync_above(d, base);
	}
	free(target);
	return ok;
}

bool spool_disk_put(struct spool_disk *d, const char *name,
		    const struct buf *text)
{
	const char *step;
	int base = spool_folders_open_base(d);
	bool ok = base >= 0 && put(d, base, "tmp", "new", name, text, &step);

	close_keeping_errno(base);
	return ok;
}

static const char *folder_or_base(int base, const char *folder)
{
	return faccessat(base, folder, F_OK, AT_EACCESS) == 0 ? folder : ".";
}

bool spool_disk_try(struct spool_disk *d, struct spool_trial *t)
{
	static char content[] = "a trial\n";
	const struct buf text = { .data = content,
				  .length = sizeof(content) - 1 };
	int base = spool_folders_open_base(d);
	const char *folder = folder_or_base(base, "new");
	char *path = xasprintf("%s/%s", folder, trial_name);
	bool ok = base >= 0;

	t->step = "open the folder";
	/* A name that another process tries works. */
	if (ok)
		ok = put(d, base, folder_or_base(base, "tmp"), folder,
			 trial_name, &text, &t->step) ||
		     errno == EEXIST;
	if (ok) {
		t->step = "remove a file";
		ok = unlinkat(base, path, 0) == 0 || errno == ENOENT;
	}
	t->error = errno;
	if (ok)
		*t = (struct spool_trial){ 0 };
	close_keeping_errno(base);
	free(path);
	return ok;
}

/* Moving. */

static bool copy_bytes(int from, int to)
{
	ssize_t n;

	do
		n = sendfile(to, from, NULL, COPY_BYTES);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0;
}

/* Copies a file with its time into a tmp/. Returns false with errno set. */
static bool copy_file(int base, const char *old, const char *tmp)
{
	int from = openat(base, old,
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	bool ok = from >= 0 && fstat(from, &st) == 0;
	int to = -1;

	if (ok && !S_ISREG(st.st_mode)) {
		errno = EXDEV;
		ok = false;
	}
	if (ok) {
		const struct timespec times[2] = { st.st_mtim, st.st_mtim };

		to = create_tmp(base, tmp);
		ok = to >= 0 && copy_bytes(from, to) &&
		     futimens(to, times) == 0 && fsync(to) == 0;
	}
	if (to >= 0 && close(to) < 0)
		ok = false;
	close_keeping_errno(from);
	return ok;
}

/*
 * Moves a file into a folder that is a mount of its own, by a copy. Returns
 * false with errno set.
 */
static bool move_by_copy(struct spool_disk *d, int base, const char *old,
			 const char *to, const char *new, bool replace)
{
	char *folder = own_tmp(base, to);
	char *tmp = tmp_name(d, folder);
	bool ok = copy_file(base, old, tmp) &&
		  (replace ? renameat(base, tmp, base, new) == 0
			   : give_name(d, base, tmp, new)) &&
		  spool_folders_sync(d, base, to) &&
		  unlinkat(base, old, 0) == 0;
	int saved = errno;

	(void)unlinkat(base, tmp, 0);
	free(tmp);
	free(folder);
	errno = saved;
	return ok;
}

bool spool_disk_move(struct spool_disk *d, const char *from, const char *to,
		     const char *name, bool replace)
{
	char *old = xasprintf("%s/%s", from, name);
	char *new = xasprintf("%s/%s", to, name);
	int base = spool_folders_open_base(d);
	bool ok = base >= 0 && (replace ? renameat(base, old, base, new) == 0
					: rename_to_free(base, old, new));

	if (ok)
		ok = spool_folders_sync(d, base, to);
	else if (base >= 0 && errno == EXDEV)
		ok = move_by_copy(d, base, old, to, new, replace);
	close_keeping_errno(base);
	free(old);
	free(new);
	return ok;
}

/* Locking. */

int spool_disk_lock(struct spool_disk *d)
{
	char *path = xasprintf("%s/drain.lock", d->path);
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	free(path);
	/* The folder itself can be locked where no file can be made. */
	if (fd < 0 && (errno == ENOSPC || errno == EDQUOT))
		fd = spool_folders_open_base(d);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	if (errno == EWOULDBLOCK) {
		close(fd);
		errno = EWOULDBLOCK;
		return -1;
	}
	/* An event that two processes drain at once is recorded once. */
	if (!atomic_exchange(&d->lock_warned, true))
		log_message(LEVEL_WARNING,
			    "can't lock spool %s: %m; it is drained without a "
			    "lock",
			    d->path);
	return fd;
}
