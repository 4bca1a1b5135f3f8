/*
 * Owns the folders of the spool: which there are, that they are private, and
 * how one is synced. Must not know what is in a file.
 *
 * Some file systems can't sync a folder. Then it is done without, and a warning
 * says so once. Any thread and any number of processes may call these functions
 * at a time.
 */
#include "store/spool_folders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

enum {
	STALE_S = 3600 /* a file in tmp/ this old may have lost its writer */
};

void close_keeping_errno(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

/* Returns true for a link that nobody but this user or root can have made. */
static bool is_trusted_link(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode) &&
	       (st.st_uid == geteuid() || st.st_uid == 0);
}

/*
 * Opens the spool's folder, or the folder on another disk that it is a link to.
 */
int spool_folders_open_base(const struct spool_disk *d)
{
	enum { FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC };
	int fd = open(d->path, FLAGS | O_NOFOLLOW), error = errno;

	if (fd < 0 && (error == ENOTDIR || error == ELOOP) &&
	    is_trusted_link(d->path))
		return open(d->path, FLAGS);
	errno = error;
	return fd;
}

static int open_folder(int base, const char *name)
{
	return openat(base, name,
		      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int spool_folders_open(const struct spool_disk *d, const char *folder)
{
	int base = spool_folders_open_base(d);
	int fd = base < 0 ? -1 : open_folder(base, folder);

	close_keeping_errno(base);
	return fd;
}

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

bool spool_folders_sync(struct spool_disk *d, int base, const char *name)
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

bool spool_folders_sync_above(struct spool_disk *d, int base)
{
	uint64_t state = folder_state(base);

	if (state && state == atomic_load(&d->synced))
		return true;
	if (!sync_descriptor(d, base) ||
	    !(spool_folders_sync(d, base, "..") || errno == EACCES))
		return false;
	atomic_store(&d->synced, state);
	return true;
}

bool spool_folders_sync_new(struct spool_disk *d)
{
	int base = spool_folders_open_base(d);
	bool ok = base >= 0 && spool_folders_sync(d, base, "new") &&
		  spool_folders_sync_above(d, base);

	close_keeping_errno(base);
	return ok;
}

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

/*
 * Makes the folders above the spool (0700), and syncs each folder that one is
 * made in. Returns false with errno set.
 */
static bool make_parents(struct spool_disk *d)
{
	char *path = xstrdup(d->path), *end = path;
	bool ok = true;

	while (ok && (end = strchr(end + 1, '/'))) {
		*end = '\0';
		if (mkdir(path, 0700) == 0) {
			int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			ok = fd >= 0 && spool_folders_sync(d, fd, "..");
			close_keeping_errno(fd);
		} else {
			ok = errno == EEXIST || errno == EACCES ||
			     errno == EROFS;
		}
		*end = '/';
	}
	free(path);
	return ok;
}

/* Makes the spool's folder and opens it. Returns -1 with errno set. */
static int make_base(struct spool_disk *d)
{
	int made = mkdir(d->path, 0700), error, base;

	if (made < 0 && errno == ENOENT && make_parents(d))
		made = mkdir(d->path, 0700);
	error = errno;
	base = spool_folders_open_base(d);
	if (base < 0 && errno == ENOENT && made < 0)
		errno = error;
	return base;
}

enum spool_state spool_folders_prepare(struct spool_disk *d)
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
