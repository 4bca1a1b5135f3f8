/*
 * Owns the live secrets, and finds out when their files change.
 * list_files() lists the files with their stamps, load_set() reads them into a
 * new set, refresh() compares and replaces. Knows nothing of signatures.
 * Threads: every worker and the drainer call secrets_acquire(), which checks
 * the files at most every CHECK_MS ms under the lock. A set has a reference
 * count, so that a replaced set lives until its last user releases it.
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

enum { CHECK_MS = 250, SECRET_LIMIT = 4096 };

/* Tells two states of a file apart without reading it. */
struct stamp {
	int error; /* of stat(); 0: the other members are set */
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
};

struct file {
	char *path;
	const char *name; /* points into path */
	struct stamp stamp;
};

/* The files that hold secrets, as listed at one moment. */
struct files {
	struct file *list; /* SECRET_FILE, then SECRET_DIR in order of name */
	size_t count;
	int directory_error; /* of reading SECRET_DIR; 0: it was read */
	bool directory_writable; /* others can create files in SECRET_DIR */
};

/* What is wrong with the files, a line each. */
struct report {
	struct buf errors, warnings;
};

struct secrets {
	const struct settings *settings;
	pthread_mutex_t lock; /* over all that follows, and the holders */
	struct secret_set *set;
	struct files scanned; /* what set was made from */
	struct report logged; /* what was reported already */
	int64_t checked_at; /* monotonic_ms() */
	bool stable; /* seen can't have changed unnoticed */
};

static void report_free(struct report *r)
{
	buf_free(&r->errors);
	buf_free(&r->warnings);
}

static void files_free(struct files *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->list[i].path);
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
 * Returns true if every stamp is more than a second old; false otherwise. Two
 * writes within one clock tick of the file system leave the same times, so a
 * younger stamp does not prove that a file is unchanged.
 */
static bool files_stable(const struct files *f)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		return false;
	for (size_t i = 0; i < f->count; i++) {
		if (f->list[i].stamp.changed.tv_sec + 1 >= now.tv_sec)
			return false;
	}
	return true;
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
	if (error)
		return;
	new->stamp.device = st->st_dev;
	new->stamp.inode = st->st_ino;
	new->stamp.size = st->st_size;
	new->stamp.modified = st->st_mtim;
	new->stamp.changed = st->st_ctim;
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
	files_add(f, xasprintf("%s/%s", directory, name), &st, error);
}

static int compare_path(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return strcmp(x->path, y->path);
}

static void list_directory(struct files *f, const struct settings *s)
{
	size_t first = f->count;
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
	if (f->count > first)
		qsort(f->list + first, f->count - first, sizeof(*f->list),
		      compare_path);
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

/*
 * Adds the secret in the open file fd to the set, or a line to the report.
 * Returns true if the file was judged; false if it must be read again.
 */
static bool read_secret(const struct settings *s, const struct file *f, int fd,
			struct secret_set *set, struct report *report)
{
	/*
	 * All room at once, because growing would leave copies of the secret.
	 */
	enum { ROOM = 4 * SECRET_LIMIT };
	struct buf text = { .data = xmalloc(ROOM), .capacity = ROOM };
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
		if (judged && length > SECRET_LIMIT)
			buf_printf(&report->errors, "%s: larger than 4KiB\n",
				   f->path);
		else if (judged && length == 0)
			buf_printf(&report->errors, "%s: an empty secret\n",
				   f->path);
		else if (judged)
			secret_set_add(set, f->name, text.data, length);
	}
	if (!judged)
		buf_printf(&report->errors, "%s: %s\n", f->path,
			   strerror(errno));
	buf_wipe(&text);
	return judged;
}

static bool load_file(const struct settings *s, const struct file *f,
		      struct secret_set *set, struct report *report)
{
	int fd, error = f->stamp.error;
	bool judged;

	/* The name is written to the log and the database. */
	if (!is_printable(f->name)) {
		buf_printf(&report->errors,
			   "%s: a secret's name must be printable ASCII\n",
			   f->path);
		return true;
	}
	if (error) {
		buf_printf(&report->errors, "%s: %s\n", f->path,
			   strerror(error));
		return true;
	}
	/* O_NONBLOCK, because open() would wait for a writer of a FIFO. */
	fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		error = errno;
		if (error == ENOENT)
			return true; /* removed since it was listed */
		buf_printf(&report->errors, "%s: %s\n", f->path,
			   strerror(error));
		return !is_transient_error(error);
	}
	judged = read_secret(s, f, fd, set, report);
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
static struct secret_set *load_set(const struct settings *s,
				   const struct files *f, struct report *report)
{
	struct secret_set *set = secret_set_new();
	bool judged = check_directory(s, f, report);

	if (s->secret)
		secret_set_add(set, "default", s->secret, strlen(s->secret));
	for (size_t i = 0; i < f->count; i++)
		judged = load_file(s, &f->list[i], set, report) && judged;
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

static void set_unref(struct secret_set *set)
{
	if (--set->refcount == 0)
		secret_set_free(set);
}

/* Lists the files, and reads them all again if one came, changed or went. */
static void refresh(struct secrets *s)
{
	struct files now = { 0 };
	struct report report = { 0 };
	struct secret_set *set;
	bool settled;

	list_files(&now, s->settings);
	settled = files_stable(&now);
	if (s->stable && files_equal(&now, &s->scanned)) {
		files_free(&now);
		return;
	}
	set = load_set(s->settings, &now, &report);
	log_new_lines(s, &report);
	if (!set) {
		files_free(&now);
		s->stable = false;
		return;
	}
	if (secret_set_equal(set, s->set)) {
		set_unref(set);
	} else {
		set_unref(s->set);
		s->set = set;
		log_message(LEVEL_INFO, "secrets changed: %zu are live",
			    set->count);
	}
	files_free(&s->scanned);
	s->scanned = now;
	s->stable = settled;
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
	list_files(&new->scanned, s);
	new->stable = files_stable(&new->scanned);
	new->checked_at = monotonic_ms();
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
		set_unref(s->set);
	files_free(&s->scanned);
	report_free(&s->logged);
	mutex_destroy(&s->lock);
	free(s);
}

const struct secret_set *secrets_acquire(struct secrets *s)
{
	struct secret_set *set;

	mutex_lock(&s->lock);
	/* Under the lock, because no thread may use an outdated set. */
	if (monotonic_ms() - s->checked_at >= CHECK_MS) {
		refresh(s);
		s->checked_at = monotonic_ms();
	}
	set = s->set;
	set->refcount++;
	mutex_unlock(&s->lock);
	return set;
}

void secrets_release(struct secrets *s, const struct secret_set *set)
{
	mutex_lock(&s->lock);
	set_unref((struct secret_set *)set);
	mutex_unlock(&s->lock);
}
