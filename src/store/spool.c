#include "store/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"

enum {
	CHARGE_MIN = 4096, /* each file counts as at least this much */
	FILE_MAX = 17 * 1024 * 1024, /* MAX_BODY at its largest, and a head */
	SCAN_INTERVAL_MS = 1000,
	STALE_S = 3600 /* a file in tmp/ this old has lost its writer */
};

static const char *const folders[] = { [SPOOL_NEW] = "new",
				       [SPOOL_FAILED] = "failed",
				       [SPOOL_REFUSED] = "refused" };

struct spool {
	char *path;
	uint64_t max_bytes;
	pthread_mutex_t lock; /* over the rest */
	pthread_cond_t changed;
	bool wake_requested;
	uint64_t bytes; /* in new/, as of looked, and what we put since */
	uint64_t files;
	int64_t scanned_at; /* monotonic_ms() */
	int64_t tried_at; /* ms, monotonic: when spool_accepts() tried */
	bool accepts; /* the result */
	unsigned tmp_serial; /* of names in tmp/ */
	int64_t error_logged_at;
};

/* Once a minute: a full spool refuses hundreds a second. */
static void log_error_limited(struct spool *s, const char *what)
{
	int64_t now = monotonic_ms();
	bool say;

	mutex_lock(&s->lock);
	say = !s->error_logged_at || now - s->error_logged_at > 60000;
	if (say)
		s->error_logged_at = now;
	mutex_unlock(&s->lock);
	if (say)
		log_message(LEVEL_ERROR, "spool %s: %s: %m", s->path, what);
}

/* Opening. */

static int open_base(const struct spool *s)
{
	return open(s->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int open_folder(int base, const char *name)
{
	return openat(base, name,
		      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool sync_folder(int base, const char *name)
{
	int fd = open_folder(base, name);
	bool ok;

	if (fd < 0)
		return false;
	ok = fsync(fd) == 0;
	close(fd);
	return ok;
}

/* Synced: an event in a folder that a crash takes away would be lost. */
static bool make_folders(int base)
{
	static const char *const names[] = { "tmp", "new", "failed",
					     "refused" };
	bool made = false;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (mkdirat(base, names[i], 0700) == 0)
			made = true;
		else if (errno != EEXIST)
			return false;
	}
	return !made || fsync(base) == 0;
}

/* Where we may not read the folder above, its file system has to do. */
static bool sync_parent(int base)
{
	return sync_folder(base, "..") || errno == EACCES;
}

/* Others could put files there, or take ours away. */
static bool check_private(const struct spool *s, int base)
{
	struct stat st;

	if (fstat(base, &st) < 0)
		return false;
	if ((st.st_mode & 022) == 0 &&
	    (st.st_uid == geteuid() || geteuid() == 0))
		return true;
	log_message(LEVEL_ERROR,
		    "spool %s must belong to this user and not be writable "
		    "by others: chmod 700 %s",
		    s->path, s->path);
	errno = EPERM;
	return false;
}

/* What a writer left that was killed before its file was whole. */
static void remove_stale_tmp(int base)
{
	int fd = open_folder(base, "tmp");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	time_t now = time(NULL);

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		struct stat st;

		if (*e->d_name != '.' &&
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    now - st.st_mtime > STALE_S)
			(void)unlinkat(fd, e->d_name, 0);
	}
	closedir(d);
}

static bool prepare(struct spool *s)
{
	int base;
	bool ok, made = mkdir(s->path, 0700) == 0;

	if (!made && errno != EEXIST)
		return false;
	base = open_base(s);
	if (base < 0)
		return false;
	ok = check_private(s, base) && make_folders(base) &&
	     (!made || sync_parent(base)) &&
	     faccessat(base, "new", W_OK | X_OK, AT_EACCESS) == 0;
	if (ok)
		remove_stale_tmp(base);
	close(base);
	return ok;
}

struct spool *spool_open(const char *path, uint64_t max_bytes)
{
	struct spool *s;

	if (!*path)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->path = xstrdup(path);
	s->max_bytes = max_bytes;
	mutex_init(&s->lock);
	cond_init(&s->changed);
	if (prepare(s))
		return s;
	log_message(LEVEL_WARNING,
		    "can't use spool %s: %m; events will be refused (503) "
		    "while the database is unavailable",
		    path);
	spool_close(s);
	return NULL;
}

void spool_close(struct spool *s)
{
	if (!s)
		return;
	cond_destroy(&s->changed);
	mutex_destroy(&s->lock);
	free(s->path);
	free(s);
}

/* Room. */

static uint64_t charge(uint64_t size)
{
	return size < CHARGE_MIN ? CHARGE_MIN : size;
}

/* Under the lock; what cannot be read counts as empty, and fails to write. */
static void scan_if_stale(struct spool *s)
{
	int base, fd;
	DIR *d;
	const struct dirent *e;

	if (s->scanned_at && monotonic_ms() - s->scanned_at < SCAN_INTERVAL_MS)
		return;
	s->scanned_at = monotonic_ms();
	s->bytes = s->files = 0;
	base = open_base(s);
	fd = base < 0 ? -1 : open_folder(base, "new");
	if (base >= 0)
		close(base);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		struct stat st;

		if (*e->d_name == '.' ||
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		s->bytes += charge((uint64_t)st.st_size);
		s->files++;
	}
	closedir(d);
}

static bool reserve(struct spool *s, uint64_t size)
{
	bool room;

	mutex_lock(&s->lock);
	scan_if_stale(s);
	room = s->bytes + charge(size) <= s->max_bytes;
	if (room) {
		s->bytes += charge(size);
		s->files++;
	}
	mutex_unlock(&s->lock);
	if (!room) {
		errno = ENOSPC;
		log_error_limited(s, "full (HUMCLI_WEBHOOK_SPOOL_MAX)");
	}
	return room;
}

bool spool_is_empty(struct spool *s)
{
	bool empty;

	mutex_lock(&s->lock);
	scan_if_stale(s);
	empty = s->files == 0;
	mutex_unlock(&s->lock);
	return empty;
}

void spool_wait(struct spool *s, int64_t until)
{
	mutex_lock(&s->lock);
	while (!s->wake_requested && monotonic_ms() < until)
		cond_wait(&s->changed, &s->lock, until);
	s->wake_requested = false;
	mutex_unlock(&s->lock);
}

void spool_wake(struct spool *s)
{
	mutex_lock(&s->lock);
	s->wake_requested = true;
	cond_signal(&s->changed);
	mutex_unlock(&s->lock);
}

/* Putting: written and synced in tmp/, then linked into new/. */

static bool write_file(int base, const char *name, const struct buf *text)
{
	int fd = openat(base, name,
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			0600);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_all(fd, text->data, text->length) && fsync(fd) == 0;
	if (close(fd) < 0)
		ok = false;
	return ok;
}

/* Whether the file that is there already is this event, whole. */
static enum spool_read compare_existing(struct spool *s,
					const struct spool_entry *e)
{
	struct spool_file f;
	enum spool_read got = spool_read(s, SPOOL_NEW, e->signature, &f);

	if (got == SPOOL_READ_OK &&
	    (f.entry.length != e->length ||
	     memcmp(f.entry.body, e->body, e->length) != 0))
		got = SPOOL_READ_DAMAGED;
	spool_file_free(&f);
	return got;
}

static bool link_new(struct spool *s, int base, const char *tmp,
		     const struct spool_entry *e)
{
	char *target = xasprintf("new/%s", e->signature);
	bool ok = linkat(base, tmp, base, target, 0) == 0;

	/* Already spooled; unless what lies there is damaged, or foreign. */
	if (!ok && errno == EEXIST) {
		enum spool_read got = compare_existing(s, e);

		if (got == SPOOL_READ_DAMAGED)
			spool_move_to_failed(s, e->signature,
					     "not what its name says");
		ok = got == SPOOL_READ_OK ||
		     (got != SPOOL_READ_LATER &&
		      linkat(base, tmp, base, target, 0) == 0);
	}
	free(target);
	return ok && sync_folder(base, "new");
}

static char *tmp_name(struct spool *s)
{
	unsigned serial;

	mutex_lock(&s->lock);
	serial = s->tmp_serial++;
	mutex_unlock(&s->lock);
	return xasprintf("tmp/%lld.%ld.%u", (long long)wall_clock_us(),
			 (long)getpid(), serial);
}

bool spool_put(struct spool *s, const struct spool_entry *e)
{
	struct buf text = { 0 };
	char *tmp = tmp_name(s);
	int base = -1, saved;
	bool ok = false;

	spool_file_render(e, &text);
	if (!reserve(s, text.length))
		goto out;
	base = open_base(s);
	ok = base >= 0 && write_file(base, tmp, &text) &&
	     link_new(s, base, tmp, e);
	saved = errno;
	if (base >= 0)
		(void)unlinkat(base, tmp, 0);
	errno = saved;
	if (ok)
		spool_wake(s);
	else
		log_error_limited(s, "can't write an event");
out:
	if (base >= 0)
		close(base);
	buf_free(&text);
	free(tmp);
	return ok;
}

static bool has_room(struct spool *s)
{
	bool room;

	mutex_lock(&s->lock);
	scan_if_stale(s);
	room = s->bytes + CHARGE_MIN <= s->max_bytes;
	mutex_unlock(&s->lock);
	return room;
}

/* Writes and syncs a file in tmp/, moves it to new/, hidden, and removes it. */
static bool try_write(struct spool *s)
{
	static char line[] = "a trial\n";
	const struct buf text = { .data = line, .length = sizeof(line) - 1 };
	char *tmp = tmp_name(s);
	char *new = xasprintf("new/.%s", tmp + strlen("tmp/"));
	int base = open_base(s), saved;
	bool ok = base >= 0 && write_file(base, tmp, &text) &&
		  renameat(base, tmp, base, new) == 0 &&
		  sync_folder(base, "new");

	saved = errno;
	if (base >= 0) {
		(void)unlinkat(base, tmp, 0);
		(void)unlinkat(base, new, 0);
		close(base);
	}
	free(new);
	free(tmp);
	errno = saved;
	return ok;
}

bool spool_accepts(struct spool *s)
{
	int64_t now = monotonic_ms();
	bool accepts, known;

	mutex_lock(&s->lock);
	known = s->tried_at && now - s->tried_at < SCAN_INTERVAL_MS;
	accepts = s->accepts;
	mutex_unlock(&s->lock);
	if (known)
		return accepts;
	accepts = has_room(s) && try_write(s);
	if (!accepts)
		log_error_limited(s, "can't write an event");
	mutex_lock(&s->lock);
	s->tried_at = now;
	s->accepts = accepts;
	mutex_unlock(&s->lock);
	return accepts;
}

/* Listing. */

static int compare_age(const void *a, const void *b)
{
	const struct spool_item *x = a, *y = b;

	if (x->mtime != y->mtime)
		return x->mtime < y->mtime ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void add_item(struct spool_list *list, const char *name,
		     const struct stat *st)
{
	if ((list->count & (list->count + 1)) == 0)
		list->items =
			xrealloc(list->items, (2 * list->count + 2) *
						      sizeof(list->items[0]));
	list->items[list->count++] = (struct spool_item){
		.name = xstrdup(name),
		.mtime = spool_time(&st->st_mtim),
		.size = (uint64_t)st->st_size,
	};
}

bool spool_list(struct spool *s, enum spool_folder folder,
		struct spool_list *list)
{
	int base = open_base(s);
	int fd = base < 0 ? -1 : open_folder(base, folders[folder]);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	*list = (struct spool_list){ 0 };
	if (base >= 0)
		close(base);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((e = readdir(d))) {
		struct stat st;

		if (*e->d_name != '.' &&
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			add_item(list, e->d_name, &st);
	}
	closedir(d);
	if (list->count)
		qsort(list->items, list->count, sizeof(list->items[0]),
		      compare_age);
	return true;
}

void spool_list_free(struct spool_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].name);
	free(list->items);
	*list = (struct spool_list){ 0 };
}

/* Reading. */

/* By errno; only what is so for good says something against the file. */
static enum spool_read classify_read_error(struct spool *s)
{
	switch (errno) {
	case ENOENT:
		return SPOOL_READ_GONE;
	case ELOOP: /* a symbolic link */
	case ENXIO: /* a socket */
	case EACCES:
	case EPERM:
	case EFBIG:
		return SPOOL_READ_DAMAGED;
	default:
		log_error_limited(s, "can't read a file");
		return SPOOL_READ_LATER;
	}
}

enum spool_read spool_read(struct spool *s, enum spool_folder folder,
			   const char *name, struct spool_file *file)
{
	char *path = xasprintf("%s/%s/%s", s->path, folders[folder], name);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	enum spool_read got = SPOOL_READ_DAMAGED;

	free(path);
	*file = (struct spool_file){ 0 };
	if (fd < 0)
		return classify_read_error(s);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if (!read_all(fd, FILE_MAX, &file->text))
			got = classify_read_error(s);
		else if (spool_file_parse(file) &&
			 strcmp(file->entry.signature, name) == 0)
			got = SPOOL_READ_OK;
	}
	close(fd);
	return got;
}

/* Refusals. */

enum { REFUSAL_MAX = 4096 };

bool spool_refusal_read(struct spool *s, const char *name,
			struct spool_refusal *refusal)
{
	char *path = xasprintf("%s/refused/%s", s->path, name);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct buf text = { 0 };
	struct stat st;
	bool found;

	free(path);
	if (fd < 0)
		return false;
	found = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		read_all(fd, REFUSAL_MAX, &text) &&
		spool_refusal_parse(text.data, refusal);
	if (found)
		refusal->retry_at = spool_time(&st.st_mtim);
	close(fd);
	buf_free(&text);
	return found;
}

void spool_refusal_write(struct spool *s, const char *name,
			 const struct spool_refusal *refusal)
{
	char *path = xasprintf("%s/refused/%s", s->path, name);
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

	spool_refusal_render(refusal, &text);
	if (fd < 0 || !write_all(fd, text.data, text.length) ||
	    futimens(fd, times) < 0)
		log_error_limited(s, "can't note that an event was refused");
	if (fd >= 0)
		close(fd);
	buf_free(&text);
	free(path);
}

void spool_refusal_remove(struct spool *s, const char *name)
{
	char *path = xasprintf("%s/refused/%s", s->path, name);

	if (unlink(path) < 0 && errno != ENOENT)
		log_error_limited(s, "can't remove the note of a refusal");
	free(path);
}

/* Moving. */

void spool_remove(struct spool *s, const char *name)
{
	char *path = xasprintf("%s/new/%s", s->path, name);

	/* Not synced: one that comes back is recorded as a duplicate. */
	if (unlink(path) < 0 && errno != ENOENT)
		log_error_limited(s, "can't remove a recorded event");
	free(path);
}

static bool move_to_failed(struct spool *s, const char *name)
{
	char *old = xasprintf("new/%s", name);
	char *new = xasprintf("failed/%s", name);
	int base = open_base(s), saved;
	bool ok = base >= 0 && renameat(base, old, base, new) == 0 &&
		  sync_folder(base, "failed");

	saved = errno;
	if (base >= 0)
		close(base);
	free(old);
	free(new);
	errno = saved;
	return ok;
}

void spool_move_to_failed(struct spool *s, const char *name, const char *why)
{
	log_fields(LEVEL_ERROR, "msg", "spool file moved to failed/", "file",
		   name, "why", why, NULL);
	if (!move_to_failed(s, name) && errno != ENOENT)
		log_error_limited(s, "can't move a file to failed/");
}

bool spool_retry(struct spool *s, const char *name)
{
	char *old = xasprintf("failed/%s", name);
	char *new = xasprintf("new/%s", name);
	int base = open_base(s), saved;
	bool ok = base >= 0 && linkat(base, old, base, new, 0) == 0 &&
		  sync_folder(base, "new") && unlinkat(base, old, 0) == 0;

	saved = errno;
	if (base >= 0)
		close(base);
	free(old);
	free(new);
	errno = saved;
	return ok;
}

int spool_lock(struct spool *s)
{
	char *path = xasprintf("%s/drain.lock", s->path);
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	free(path);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

void spool_unlock(int lock)
{
	close(lock);
}
