#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "config/secrets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum {
	SHORT_SECRET = 16, /* bytes */
	LONG_WAIT_S = 600, /* in the spool */
	LITTLE_SPACE = 64 << 20,
	LOG_TAIL = 64 << 10,
	STREAK = 10 /* refusals in a row */
};

/* Names that document roots have on the hosts we know. */
static bool is_served(const char *path)
{
	static const char *const roots[] = { "public_html", "htdocs",
					     "httpdocs",    "www",
					     "html",	    "wwwroot" };

	while ((path = strchr(path, '/'))) {
		size_t length = strcspn(++path, "/");

		for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
			if (strlen(roots[i]) == length &&
			    strncmp(path, roots[i], length) == 0)
				return true;
		}
	}
	return false;
}

static void check_place(struct findings *f, const char *what, const char *path)
{
	if (path && *path == '/' && is_served(path))
		report_finding(
			f, FINDING_FAILURE, "place",
			"move it to ~/.humcli-webhook or below /etc: what is "
			"in a document root can be fetched by anybody",
			"%s is in a document root: %s", what, path);
}

static void check_secrets(struct findings *f, const struct settings *s)
{
	struct buf errors = { 0 };
	struct secrets *secrets = secrets_open(s, &errors);
	const struct secret_set *set;

	if (!secrets) {
		for (char *line = strtok(errors.data, "\n"); line;
		     line = strtok(NULL, "\n"))
			report_finding(
				f, FINDING_FAILURE, "secrets",
				"each secret is a file of SECRET_DIR, which "
				"the receiver and nobody else can read",
				"%s", line);
		buf_free(&errors);
		return;
	}
	set = secrets_acquire(secrets);
	for (size_t i = 0; i < set->count; i++)
		report_finding(
			f,
			set->list[i].length < SHORT_SECRET ? FINDING_WARNING
							   : FINDING_OK,
			"secrets",
			"a secret that short can be guessed: printf 'whsec_%s' "
			"\"$(openssl rand -hex 32)\"",
			"%s, %zu bytes", set->list[i].name,
			set->list[i].length);
	secrets_release(secrets, set);
	secrets_close(secrets);
	buf_free(&errors);
}

void doctor_files(struct findings *f, const struct settings *s)
{
	report_finding(f, FINDING_OK, "settings", NULL, "%s",
		       s->file ? s->file : "no file; the environment alone");
	check_place(f, "the settings file", s->file);
	check_place(f, "SECRET_FILE", s->secret_file);
	check_place(f, "SECRET_DIR", s->secret_dir);
	check_place(f, "SPOOL", s->spool);
	check_place(f, "LOG", s->log);
	check_secrets(f, s);
}

/* The spool. */

struct folder {
	size_t files;
	uint64_t bytes;
	time_t oldest; /* 0: none */
};

/* False: it can't be read, with errno set. */
static bool count_folder(const char *spool, const char *name,
			 struct folder *out)
{
	char *path = xasprintf("%s/%s", spool, name);
	DIR *d = opendir(path);
	const struct dirent *e;
	struct stat st;

	*out = (struct folder){ 0 };
	free(path);
	while (d && (e = readdir(d))) {
		if (*e->d_name == '.' ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		out->files++;
		out->bytes += (uint64_t)st.st_size;
		if (!out->oldest || st.st_mtime < out->oldest)
			out->oldest = st.st_mtime;
	}
	if (d)
		closedir(d);
	return d || errno == ENOENT;
}

static void check_waiting(struct findings *f, const struct settings *s,
			  const struct folder *new, const struct folder *failed)
{
	long age = new->files ? (long)(time(NULL) - new->oldest) : 0;

	report_finding(
		f,
		age > LONG_WAIT_S ? FINDING_FAILURE
		: new->files	  ? FINDING_WARNING
				  : FINDING_OK,
		"spool",
		"humcli-webhook spool drain, as the receiver's user, says why "
		"PostgreSQL does not take them",
		"%zu events wait in it, the oldest for %ld s", new->files, age);
	if (new->bytes > s->spool_max / 10 * 8)
		report_finding(f, FINDING_FAILURE, "spool",
			       "let PostgreSQL take events again, or raise "
			       "HUMCLI_WEBHOOK_SPOOL_MAX",
			       "it is over four fifths full");
	if (failed->files)
		report_finding(
			f, FINDING_WARNING, "spool",
			"humcli-webhook spool list names them, the log the "
			"reasons; once a secret is live again: humcli-webhook "
			"spool retry-failed",
			"%zu files were set aside in failed/", failed->files);
}

static void check_space(struct findings *f, const char *path)
{
	struct statvfs v;

	if (statvfs(path, &v) == 0 &&
	    (uint64_t)v.f_bavail * v.f_frsize < LITTLE_SPACE)
		report_finding(
			f, FINDING_WARNING, "spool",
			"make room: events can't be spooled on a full disk",
			"its file system has less than 64 MiB left");
}

void doctor_spool(struct findings *f, const struct settings *s)
{
	struct folder new, failed;
	struct stat st;

	if (!*s->spool) {
		report_finding(
			f, FINDING_WARNING, "spool",
			"set HUMCLI_WEBHOOK_SPOOL: without one, an event that "
			"comes while PostgreSQL is away is answered 503",
			"there is none");
		return;
	}
	if (stat(s->spool, &st) < 0 && errno == ENOENT) {
		report_finding(f, FINDING_OK, "spool", NULL,
			       "%s is not there yet; the receiver makes it",
			       s->spool);
		return;
	}
	if (!count_folder(s->spool, "new", &new) ||
	    !count_folder(s->spool, "failed", &failed)) {
		report_finding(
			f, FINDING_WARNING, "spool",
			"run the doctor as the receiver's user, or as root",
			"%s can't be read: %s", s->spool, strerror(errno));
		return;
	}
	if (stat(s->spool, &st) == 0 && (st.st_mode & 077))
		report_finding(
			f, FINDING_FAILURE, "spool",
			"chmod 700, and see who could have written there",
			"%s is open to others (%03o)", s->spool,
			(unsigned)(st.st_mode & 0777));
	check_waiting(f, s, &new, &failed);
	check_space(f, s->spool);
}

/* The log. */

static bool read_tail(const char *path, struct buf *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	bool ok;

	if (end > LOG_TAIL)
		(void)lseek(fd, end - LOG_TAIL, SEEK_SET);
	else if (end >= 0)
		(void)lseek(fd, 0, SEEK_SET);
	/* It can grow while we read. */
	ok = end >= 0 && read_all(fd, LOG_TAIL + (1 << 20), text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* How many of the last answers were 401, without another between. */
static size_t count_streak(char *text)
{
	size_t streak = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		if (strstr(line, " http=401 "))
			streak++;
		else if (strstr(line, " http=200 "))
			streak = 0;
	}
	return streak;
}

void doctor_log(struct findings *f, const struct settings *s)
{
	struct buf text = { 0 };
	size_t streak;

	if (*s->log != '/') {
		report_finding(f, FINDING_OK, "log", NULL,
			       "goes to %s, where it is not looked at", s->log);
		return;
	}
	if (!read_tail(s->log, &text)) {
		report_finding(f,
			       errno == ENOENT ? FINDING_OK : FINDING_WARNING,
			       "log", "run the doctor as the receiver's user",
			       "%s: %s", s->log, strerror(errno));
		buf_free(&text);
		return;
	}
	streak = text.length ? count_streak(text.data) : 0;
	report_finding(
		f, streak >= STREAK ? FINDING_WARNING : FINDING_OK, "log",
		"why= in the log says it; is each open task's callback_secret "
		"a file of SECRET_DIR, and does nothing change the body?",
		"%zu answers of 401 since the last 200", streak);
	buf_free(&text);
}
