/*
 * Owns the active secrets, and finds out when their files change.
 * list_files() lists the files with their stamps, keep_unchanged() takes over
 * what is known of them, load_set() reads the others and makes a new set.
 * Knows nothing of signatures.
 *
 * Threads: every worker and the drainer call secrets_acquire(). The first that
 * finds a check due, CHECK_MS ms after the last, calls refresh(), without the
 * lock, because that takes a while with thousands of files. Meanwhile the
 * others get the old set while its check began at most USABLE_MS ms ago; else
 * they wait. A set has a reference count, so that a replaced set lives until
 * its last user releases it.
 */
#include "config/secrets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/parse.h"
#include "base/threads.h"
#include "config/private_file.h"

/* A change has to take effect within 1 s. */
enum {
	CHECK_MS = 250,
	CHECK_LONGEST_MS = 500,
	USABLE_MS = 900,
	SECRET_LIMIT = 4096
};

/* Tells two states of a file apart without reading it. */
struct stamp {
	int error; /* of stat(); 0: the other members are set */
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
};

/* What is wrong with the files, a line each. */
struct report {
	struct buf errors, warnings;
};

struct file {
	char *path;
	const char *name; /* points into path */
	struct stamp stamp;
	bool settled; /* an equal stamp proves that the file is the same */
	bool loaded; /* the next two are set */
	struct buf key; /* empty if the file is invalid */
	struct report report;
};

/* The files that hold secrets, as listed at one moment. */
struct files {
	struct file *list; /* by name */
	size_t count;
	int directory_error; /* of reading SECRET_DIR; 0: it was read */
	bool directory_writable; /* others can create files in SECRET_DIR */
};

struct secrets {
	const struct settings *settings;
	pthread_mutex_t lock; /* over the next five, and the references */
	pthread_cond_t changed; /* refreshing is false again */
	struct secret_set *set;
	int64_t checked_at; /* when the last check began (ms, monotonic) */
	int64_t check_ms; /* from the start of a check to the next */
	bool refreshing; /* a thread is in refresh() */

	/* For the thread in refresh() alone. */
	struct files scanned; /* what set was made from */
	struct report logged; /* what was reported already */
	bool stable; /* all of scanned is settled */
};

static void report_free(struct report *r)
{
	buf_free(&r->errors);
	buf_free(&r->warnings);
}

static void files_free(struct files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->list[i].path);
		buf_wipe(&f->list[i].key);
		report_free(&f->list[i].report);
	}
	free(f->list);
	*f = (struct files){ 0 };
}

static bool time_equal(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
	return a->error == b->error && a->device == b->device &&
	       a->inode == b->inode && a->size == b->size &&
	       time_equal(a->modified, b->modified) &&
	       time_equal(a->changed, b->changed);
}

static bool files_equal(const struct files *a, const struct files *b)
{
	if (a->count != b->count || a->directory_error != b->directory_error ||
	    a->directory_writable != b->directory_writable)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->list[i].path, b->list[i].path) != 0 ||
		    !stamp_equal(&a->list[i].stamp, &b->list[i].stamp))
			return false;
	}
	return true;
}

/*
 * Returns true if the stamp is more than a second old; false otherwise. Two
 * writes within one clock tick of the file system leave the same times, so a
 * younger stamp does not prove that a file is unchanged.
 */
static bool is_settled(const struct stamp *stamp)
{
	struct timespec now;

	return clock_gettime(CLOCK_REALTIME, &now) == 0 &&
	       stamp->changed.tv_sec + 1 < now.tv_sec;
}

static bool all_settled(const struct files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		if (!f->list[i].settled)
			return false;
	}
	return true;
}

static void buf_copy(struct buf *to, const struct buf *from)
{
	if (from->length)
		buf_add(to, from->data, from->length);
}

static void report_add(struct report *to, const struct report *from)
{
	buf_copy(&to->errors, &from->errors);
	buf_copy(&to->warnings, &from->warnings);
}

/* Orders files by name, so that a set is filled in its order. */
static int compare_file(const void *a, const void *b)
{
	const struct file *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->path, y->path);
}

/* Takes over what is known of files that are the same as in old. */
static void keep_unchanged(struct files *now, const struct files *old)
{
	size_t k = 0;

	for (size_t i = 0; i < now->count; i++) {
		struct file *f = &now->list[i];
		const struct file *o;

		while (k < old->count && strcmp(old->list[k].path, f->path) < 0)
			k++;
		if (k == old->count)
			return;
		o = &old->list[k];
		if (!o->settled || !o->loaded ||
		    strcmp(o->path, f->path) != 0 ||
		    !stamp_equal(&o->stamp, &f->stamp))
			continue;
		buf_copy(&f->key, &o->key);
		report_add(&f->report, &o->report);
		f->loaded = true;
	}
}

static void files_add(struct files *f, char *path, const struct stat *st,
		      int error)
{
	struct file *new;
	const char *slash = strrchr(path, '/');

	f->list = array_grow(f->list, f->count, sizeof(*new));
	new = &f->list[f->count++];
	*new = (struct file){ .path = path,
			      .name = slash ? slash + 1 : path,
			      .stamp.error = error };
	if (error) {
		new->settled = true;
		return;
	}
	new->stamp.device = st->st_dev;
	new->stamp.inode = st->st_ino;
	new->stamp.size = st->st_size;
	new->stamp.modified = st->st_mtim;
	new->stamp.changed = st->st_ctim;
	new->settled = is_settled(&new->stamp);
}

/* Returns FOLDER/NAME; faster than xasprintf(). The caller frees it. */
static char *join(const char *folder, const char *name)
{
	size_t size = strlen(folder) + 1 + strlen(name) + 1;
	char *path = xmalloc(size);
	char *end = stpcpy(path, folder);

	*end++ = '/';
	(void)stpcpy(end, name);
	return path;
}

/* Adds one name of SECRET_DIR, unless it is a folder or was removed. */
static void files_add_entry(struct files *f, const char *directory, int fd,
			    const char *name)
{
	struct stat st;
	int error = 0;

	/*
	 * Links are followed, because in Kubernetes each name is a link into
	 * ..data.
	 */
	if (fstatat(fd, name, &st, 0) < 0) {
		error = errno;
		if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
		    errno == ENOENT)
			return; /* removed since it was listed */
	} else if (S_ISDIR(st.st_mode)) {
		return;
	}
	files_add(f, join(directory, name), &st, error);
}

static void list_directory(struct files *f, const struct settings *s)
{
	DIR *directory = opendir(s->secret_dir);
	struct dirent *entry;
	struct stat st;

	if (!directory) {
		f->directory_error = errno;
		return;
	}
	if (fstat(dirfd(directory), &st) == 0)
		f->directory_writable = (st.st_mode & S_IWOTH) &&
					!private_file_in_protected_place(
						dirfd(directory), s->secret_dir,
						s->credentials_dir);
	while (errno = 0, (entry = readdir(directory))) {
		if (entry->d_name[0] != '.')
			files_add_entry(f, s->secret_dir, dirfd(directory),
					entry->d_name);
	}
	f->directory_error = errno;
	closedir(directory);
}

static void list_files(struct files *f, const struct settings *s)
{
	struct stat st;

	if (s->secret_file) {
		int error = stat(s->secret_file, &st) < 0 ? errno : 0;

		files_add(f, xstrdup(s->secret_file), &st, error);
	}
	if (s->secret_dir)
		list_directory(f, s);
	if (f->count)
		qsort(f->list, f->count, sizeof(*f->list), compare_file);
}

/*
 * Returns true if the error tells nothing about the file, so that the old set
 * stays in use; false otherwise.
 */
static bool is_transient_error(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM ||
	       error == EIO || error == ESTALE;
}

/*
 * Returns the length without one LF or CRLF at the end, which editors append.
 */
static size_t strip_newline(const char *text, size_t length)
{
	if (length && text[length - 1] == '\n') {
		length--;
		if (length && text[length - 1] == '\r')
			length--;
	}
	return length;
}

/* Warns of bytes that an editor or a careless hand adds to a secret. */
static void check_content(struct file *f)
{
	static const char space[] = " \t\r\n\v\f";
	const char *key = f->key.data;
	size_t n = f->key.length;
	bool first = memchr(space, key[0], sizeof(space) - 1);
	bool last = memchr(space, key[n - 1], sizeof(space) - 1);
	const char *fault = NULL;

	if (n >= 3 && memcmp(key, "\xef\xbb\xbf", 3) == 0)
		fault = "begins with a byte order mark";
	else if (n >= 2 && (memcmp(key, "\xff\xfe", 2) == 0 ||
			    memcmp(key, "\xfe\xff", 2) == 0))
		fault = "is UTF-16";
	else if (first || last)
		fault = first ? "begins with white space"
			      : "ends with white space";
	if (fault)
		buf_printf(&f->report.warnings,
			   "%s: the secret %s, which counts as part of it\n",
			   f->path, fault);
}

/*
 * Reads the secret in the open file fd, or reports its fault. Returns true if
 * it did one of both; false if the file must be read again.
 */
static bool read_secret(const struct settings *s, struct file *f, int fd)
{
	/* All room at once, because growing would leave copies of the secret. */
	enum { ROOM = 4 * SECRET_LIMIT };
	struct buf text = { .data = xmalloc(ROOM), .capacity = ROOM };
	struct report *report = &f->report;
	struct stat st;
	bool judged = true;
	size_t length;

	if (fstat(fd, &st) < 0) {
		judged = false;
	} else if (!S_ISREG(st.st_mode)) {
		buf_printf(&report->errors, "%s: not a regular file\n",
			   f->path);
	} else if (private_file_check(fd, f->path, s->credentials_dir,
				      &report->errors, &report->warnings)) {
		/* 2 bytes more, for CRLF. */
		judged = read_all(fd, SECRET_LIMIT + 2, &text) ||
			 errno == EFBIG;
		length = strip_newline(text.data, text.length);
		if (judged && length > SECRET_LIMIT) {
			buf_printf(&report->errors, "%s: larger than 4KiB\n",
				   f->path);
		} else if (judged && length == 0) {
			buf_printf(&report->errors, "%s: an empty secret\n",
				   f->path);
		} else if (judged) {
			buf_add(&f->key, text.data, length);
			check_content(f);
		}
	}
	if (!judged)
		buf_printf(&report->errors, "%s: %s\n", f->path,
			   strerror(errno));
	buf_wipe(&text);
	return judged;
}

/* Returns as read_secret(). */
static bool load_file(const struct settings *s, struct file *f)
{
	struct buf *errors = &f->report.errors;
	int fd, error = f->stamp.error;
	bool judged;

	/* The name is written to the log and the database. */
	if (!is_printable(f->name)) {
		buf_printf(errors,
			   "%s: a secret's name must be printable ASCII\n",
			   f->path);
		return true;
	}
	if (error) {
		buf_printf(errors, "%s: %s\n", f->path, strerror(error));
		return true;
	}
	/* O_NONBLOCK, because open() would wait for a writer of a FIFO. */
	fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		error = errno;
		if (error == ENOENT)
			return true; /* removed since it was listed */
		buf_printf(errors, "%s: %s\n", f->path, strerror(error));
		return !is_transient_error(error);
	}
	judged = read_secret(s, f, fd);
	close(fd);
	return judged;
}

/*
 * Reports the faults of SECRET_DIR itself. Returns true if it was listed or
 * does not exist; false if it must be listed again.
 */
static bool check_directory(const struct settings *s, const struct files *f,
			    struct report *report)
{
	int error = f->directory_error;
	bool gone = error == ENOENT || error == ENOTDIR;

	if (f->directory_writable)
		buf_printf(&report->errors,
			   "%s holds secrets and others can write it; fix: "
			   "chmod o-w %s\n",
			   s->secret_dir, s->secret_dir);
	if (error && (!gone || s->secret_dir_given))
		buf_printf(&report->errors, "%s: %s\n", s->secret_dir,
			   strerror(error));
	return !error || gone;
}

/*
 * Returns a set of all secrets without fault, with one reference; each fault is
 * a line in the report. Returns NULL if a file could not be read for a reason
 * that will pass.
 */
static struct secret_set *load_set(const struct settings *s, struct files *f,
				   struct report *report)
{
	struct secret_set *set = secret_set_new();
	bool judged = check_directory(s, f, report);

	if (s->secret)
		secret_set_add(set, "default", s->secret, strlen(s->secret));
	for (size_t i = 0; i < f->count; i++) {
		struct file *one = &f->list[i];

		if (!one->loaded)
			one->loaded = load_file(s, one);
		judged = one->loaded && judged;
		report_add(report, &one->report);
		if (one->key.length)
			secret_set_add(set, one->name, one->key.data,
				       one->key.length);
	}
	if (judged)
		return set;
	secret_set_free(set);
	return NULL;
}

static bool contains_line(const struct buf *lines, const char *line,
			  size_t length)
{
	const char *other;
	size_t at = 0, n;

	while ((other = buf_next_line(lines, &at, &n))) {
		if (n == length && memcmp(other, line, length) == 0)
			return true;
	}
	return false;
}

static void log_lines_not_in(enum log_level level, const struct buf *new,
			     const struct buf *old)
{
	const char *line;
	size_t at = 0, length;

	while ((line = buf_next_line(new, &at, &length))) {
		if (!contains_line(old, line, length))
			log_message(level, "%.*s", (int)length, line);
	}
}

/* Logs the lines that are new since the last report, and keeps this report. */
static void log_new_lines(struct secrets *s, struct report *report)
{
	log_lines_not_in(LEVEL_ERROR, &report->errors, &s->logged.errors);
	log_lines_not_in(LEVEL_WARNING, &report->warnings, &s->logged.warnings);
	report_free(&s->logged);
	s->logged = *report;
}

/* Drops a reference. Call without s->lock, because freeing takes a while. */
static void set_unref(struct secrets *s, struct secret_set *set)
{
	bool last;

	mutex_lock(&s->lock);
	last = --set->refcount == 0;
	mutex_unlock(&s->lock);
	if (last)
		secret_set_free(set);
}

static void replace_set(struct secrets *s, struct secret_set *set)
{
	struct secret_set *old;

	mutex_lock(&s->lock);
	old = s->set;
	s->set = set;
	mutex_unlock(&s->lock);
	set_unref(s, old);
	log_message(LEVEL_INFO, "secrets changed: %zu are active", set->count);
}

/*
 * Lists the files, and makes a new set if one came, changed or went. Call
 * without s->lock, and with s->refreshing set by this thread.
 */
static void refresh(struct secrets *s)
{
	struct files now = { 0 };
	struct report report = { 0 };
	struct secret_set *set;

	list_files(&now, s->settings);
	if (s->stable && files_equal(&now, &s->scanned)) {
		files_free(&now);
		return;
	}
	keep_unchanged(&now, &s->scanned);
	set = load_set(s->settings, &now, &report);
	log_new_lines(s, &report);
	if (!set) {
		files_free(&now);
		s->stable = false;
		return;
	}
	files_free(&s->scanned);
	s->scanned = now;
	s->stable = all_settled(&now);
	if (secret_set_equal(set, s->set))
		set_unref(s, set);
	else
		replace_set(s, set);
}

static void explain_no_secret(const struct settings *s, struct buf *errors)
{
	const char *directory = s->secret_dir;

	buf_printf(errors, "no secret: HUMCLI_WEBHOOK_SECRET and "
			   "HUMCLI_WEBHOOK_SECRET_FILE are not set, ");
	if (directory)
		buf_printf(errors, "%s holds none\n", directory);
	else
		buf_printf(errors, "HUMCLI_WEBHOOK_SECRET_DIR neither\n");
	if (!directory)
		directory = SYSCONFDIR "/humcli-webhook.secrets";
	/* No quotes in this command, because the log would escape them. */
	buf_printf(errors,
		   "to make one: (umask 077; mkdir -p %s; openssl rand -hex 32 "
		   "> %s/main), readable to the user the receiver runs "
		   "as%s%s\n",
		   directory, directory,
		   s->secret_dir ? "" : ", and HUMCLI_WEBHOOK_SECRET_DIR=",
		   s->secret_dir ? "" : directory);
}

struct secrets *secrets_open(const struct settings *s, struct buf *errors)
{
	struct secrets *new = xcalloc(1, sizeof(*new));
	struct report report = { 0 };

	new->settings = s;
	mutex_init(&new->lock);
	cond_init(&new->changed);
	new->checked_at = monotonic_ms();
	new->check_ms = CHECK_MS;
	list_files(&new->scanned, s);
	new->stable = all_settled(&new->scanned);
	new->set = load_set(s, &new->scanned, &report);
	buf_add(errors, report.errors.data, report.errors.length);
	if (new->set &&new->set->count == 0 && report.errors.length == 0)
		explain_no_secret(s, errors);
	else if (new->set && report.errors.length == 0) {
		log_new_lines(new, &report);
		return new;
	}
	report_free(&report);
	secrets_close(new);
	return NULL;
}

void secrets_close(struct secrets *s)
{
	if (!s)
		return;
	if (s->set)
		set_unref(s, s->set);
	files_free(&s->scanned);
	report_free(&s->logged);
	cond_destroy(&s->changed);
	mutex_destroy(&s->lock);
	free(s);
}

const struct secret_set *secrets_acquire(struct secrets *s)
{
	struct secret_set *set;
	int64_t now = monotonic_ms();

	mutex_lock(&s->lock);
	if (now - s->checked_at >= s->check_ms && !s->refreshing) {
		s->refreshing = true;
		mutex_unlock(&s->lock);
		refresh(s);
		mutex_lock(&s->lock);
		s->refreshing = false;
		s->checked_at = now;
		/* Costly checks are made less often. */
		s->check_ms =
			min_i64(max_i64(CHECK_MS, 10 * (monotonic_ms() - now)),
				CHECK_LONGEST_MS);
		cond_broadcast(&s->changed);
	}
	while (s->refreshing && monotonic_ms() - s->checked_at >= USABLE_MS)
		cond_wait(&s->changed, &s->lock, monotonic_ms() + USABLE_MS);
	set = s->set;
	set->refcount++;
	mutex_unlock(&s->lock);
	return set;
}

void secrets_release(struct secrets *s, const struct secret_set *set)
{
	set_unref(s, (struct secret_set *)set);
}
