/*
 * Owns the folders of the spool and the order of system calls by which a file
 * survives a crash. It must not know what is in a file, and counts nothing.
 *
 * A file is written and synced in tmp/, and linked into new/, which is synced
 * last. Every other file system has a way around:
 *   no hard links: the file is renamed;
 *   new/ or failed/ is a mount: the file is written in its hidden folder .tmp/;
 *   a folder can't be synced, or no lock is to be had: done without, and a
 *   warning says so once.
 * Any thread and any number of processes may call these functions at a time.
 */
#include "store/spool_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

enum {
	STALE_S = 3600, /* a file in tmp/ this old may have lost its writer */
	COPY_BYTES = 1 << 20
};

static const char trial_name[] = ".trial";

static void close_keeping_errno(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

static int open_base(const struct spool_disk *d)
{
	return open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int open_folder(int base, const char *name)
{
	return openat(base, name,
		      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int spool_disk_open(const struct spool_disk *d, const char *folder)
{
	int base = open_base(d);
	int fd = base < 0 ? -1 : open_folder(base, folder);

	close_keeping_errno(base);
	return fd;
}

/* Syncing. */

/*
 * Syncs a folder. A file system that can't do that at all is used all the
 * same, as PostgreSQL and git use it. Returns false with errno set.
 */
static bool sync_descriptor(struct spool_disk *d, int fd)
{
	if (fsync(fd) == 0)
		return true;
	if (errno != EINVAL && errno != ENOTSUP && errno != ENOSYS &&
	    errno != EBADF)
		return false;
	if (!atomic_exchange(&d->sync_warned, true))
		log_message(LEVEL_WARNING,
			    "can't sync folders of spool %s: %m; a power "
			    "failure may lose events that were just spooled",
			    d->path);
	return true;
}

static bool sync_folder(struct spool_disk *d, int base, const char *name)
{
	int fd = open_folder(base, name);
	bool ok = fd >= 0 && sync_descriptor(d, fd);

	close_keeping_errno(fd);
	return ok;
}

/* Returns a value that changes when a folder is made in this one. */
static uint64_t folder_state(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000000000 +
	       (uint64_t)st.st_mtim.tv_nsec + ((uint64_t)st.st_ino << 40);
}

/*
 * Syncs the spool's folder and its parent unless this process did, because a
 * process that made them may have died before it did. A parent that can't be
 * read is left to its file system.
 */
static bool sync_above(struct spool_disk *d, int base)
{
	uint64_t state = folder_state(base);

	if (state && state == atomic_load(&d->synced))
		return true;
	if (!sync_descriptor(d, base) ||
	    !(sync_folder(d, base, "..") || errno == EACCES))
		return false;
	atomic_store(&d->synced, state);
	return true;
}

bool spool_disk_sync_new(struct spool_disk *d)
{
	int base = open_base(d);
	bool ok = base >= 0 && sync_folder(d, base, "new") &&
		  sync_above(d, base);

	close_keeping_errno(base);
	return ok;
}

/* Opening. */

static bool make_folders(int base)
{
	static const char *const names[] = { "tmp", "new", "failed",
					     "refused" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (mkdirat(base, names[i], 0700) < 0 && errno != EEXIST)
			return false;
	}
	return true;
}

/* Returns false if others could put files there, or take ours away. */
static bool is_private(struct spool_disk *d, int base)
{
	struct stat st;

	if (fstat(base, &st) < 0)
		return false;
	if ((st.st_mode & 022) == 0 &&
	    (st.st_uid == geteuid() || geteuid() == 0))
		return true;
	log_limited(&d->not_private, LEVEL_ERROR,
		    "spool %s must belong to this user and not be writable "
		    "by others: chmod 700 %s",
		    d->path, d->path);
	errno = EPERM;
	return false;
}

/*
 * Removes a file of tmp/ that is old and whose writer is dead. A writer holds a
 * lock, because the clock may jump while it writes.
 */
static void remove_if_stale(int folder, const char *name)
{
	struct stat st;
	int fd = openat(folder, name,
			O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && time(NULL) - st.st_mtime > STALE_S &&
	    (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK))
		(void)unlinkat(folder, name, 0);
	close(fd);
}

static void remove_stale_files(int base, const char *folder)
{
	int fd = open_folder(base, folder);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!dir) {
		close_keeping_errno(fd);
		return;
	}
	while ((e = readdir(dir))) {
		if (*e->d_name != '.')
			remove_if_stale(fd, e->d_name);
	}
	closedir(dir);
}

/* Makes the spool's folder and opens it. Returns -1 with errno set. */
static int make_base(const struct spool_disk *d)
{
	int made = mkdir(d->path, 0700), error = errno;
	int base = open_base(d);

	if (base < 0 && errno == ENOENT && made < 0)
		errno = error;
	return base;
}

enum spool_state spool_disk_prepare(struct spool_disk *d)
{
	enum spool_state state = SPOOL_UNUSABLE;
	int base = make_base(d), saved;

	if (base >= 0 && is_private(d, base)) {
		state = SPOOL_READY;
		if (!make_folders(base)) {
			saved = errno;
			state = faccessat(base, "new", X_OK, AT_EACCESS) == 0
					? SPOOL_DRAINABLE
					: SPOOL_UNUSABLE;
			errno = saved;
		}
	}
	saved = errno;
	if (state == SPOOL_READY) {
		remove_stale_files(base, "tmp");
		remove_stale_files(base, "new/.tmp");
		remove_stale_files(base, "failed/.tmp");
	}
	if (base >= 0)
		close(base);
	errno = saved;
	return state;
}

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
		ok = sync_folder(d, base, folder) && sync_above(d, base);
	}
	free(target);
	return ok;
}

bool spool_disk_put(struct spool_disk *d, const char *name,
		    const struct buf *text)
{
	const char *step;
	int base = open_base(d);
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
	int base = open_base(d);
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
		  sync_folder(d, base, to) && unlinkat(base, old, 0) == 0;
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
	int base = open_base(d);
	bool ok = base >= 0 && (replace ? renameat(base, old, base, new) == 0
					: rename_to_free(base, old, new));

	if (ok)
		ok = sync_folder(d, base, to);
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
		fd = open_base(d);
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
