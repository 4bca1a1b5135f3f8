#include "cli/doctor/doctor.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

enum {
	LONG_WAIT_S = 600, /* in the spool */
	LITTLE_SPACE = 64 << 20
};

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
