/*
 * Owns what is read from the files of secrets: which files there are, whether
 * one has changed, and the secret in each. Must not know threads or the log:
 * the caller gets every fault as a line of a report.
 *
 * secret_files_list() lists the files with their stamps,
 * secret_files_keep_unchanged() takes over what is known of them, and
 * secret_files_load() reads the others and makes a set. Used by one thread at a
 * time.
 */
#include "config/secret_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "config/private_file.h"

enum { SECRET_LIMIT = 4096 };

void secret_report_free(struct secret_report *r)
{
	buf_free(&r->errors);
	buf_free(&r->warnings);
}

void secret_files_free(struct secret_files *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->list[i].path);
		buf_wipe(&f->list[i].key);
		secret_report_free(&f->list[i].report);
	}
	free(f->list);
	*f = (struct secret_files){ 0 };
}

static bool time_equal(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
	return a->error == b->error && a->device == b->device &&
	       a->inode == b->inode && a->size == b->size &&
	       time_equal(a->modified, b->modified) &&
	       time_equal(a->changed, b->changed);
}

bool secret_files_equal(const struct secret_files *a,
			const struct secret_files *b)
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
static bool is_settled(const struct file_stamp *stamp)
{
	struct timespec now;

	return clock_gettime(CLOCK_REALTIME, &now) == 0 &&
	       stamp->changed.tv_sec + 1 < now.tv_sec;
}

bool secret_files_settled(const struct secret_files *f)
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

static void report_add(struct secret_report *to,
		       const struct secret_report *from)
{
	buf_copy(&to->errors, &from->errors);
	buf_copy(&to->warnings, &from->warnings);
}

/* Orders files by name, so that a set is filled in its order. */
static int compare_file(const void *a, const void *b)
{
	const struct secret_file *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->path, y->path);
}

void secret_files_keep_unchanged(struct secret_files *now,
				 const struct secret_files *old)
{
	size_t k = 0;

	for (size_t i = 0; i < now->count; i++) {
		struct secret_file *f = &now->list[i];
		const struct secret_file *o;

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

static void files_add(struct secret_files *f, char *path, const struct stat *st,
		      int error)
{
	struct secret_file *new;
	const char *slash = strrchr(path, '/');

	f->list = array_grow(f->list, f->count, sizeof(*new));
	new = &f->list[f->count++];
	*new = (struct secret_file){ .path = path,
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
static void files_add_entry(struct secret_files *f, const char *directory,
			    int fd, const char *name)
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

static void list_directory(struct secret_files *f, const struct settings *s)
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

void secret_files_list(struct secret_files *f, const struct settings *s)
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
static void check_content(struct secret_file *f)
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
static bool read_secret(const struct settings *s, struct secret_file *f, int fd)
{
	/*
	 * All room at once, because growing would leave copies of the secret.
	 */
	enum { ROOM = 4 * SECRET_LIMIT };
	struct buf text = { .data = xmalloc(ROOM), .capacity = ROOM };
	struct secret_report *report = &f->report;
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
static bool load_file(const struct settings *s, struct secret_file *f)
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
static bool check_directory(const struct settings *s,
			    const struct secret_files *f,
			    struct secret_report *report)
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
	report->folder_unusable = report->errors.length > 0;
	return !error || gone;
}

struct secret_set *secret_files_load(const struct settings *s,
				     struct secret_files *f,
				     struct secret_report *report)
{
	struct secret_set *set = secret_set_new();
	bool judged = check_directory(s, f, report);

	if (s->secret)
		secret_set_add(set, "default", s->secret, strlen(s->secret));
	for (size_t i = 0; i < f->count; i++) {
		struct secret_file *one = &f->list[i];

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
