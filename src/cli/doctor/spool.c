/*
 * Checks the spool: writes, syncs, links and removes a file as the receiver
 * does, because access(2) does not know full disks, quotas and read-only
 * mounts. Then counts the waiting and the failed files. Changes nothing else;
 * a spool that is missing is tried in the nearest folder above it.
 */
#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "postgres/sqlstate.h"
#include "store/spool_disk.h"
#include "store/spool_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum {
	LONG_WAIT_S = 600, /* in the spool */
	LITTLE_SPACE = 64 << 20,
	NOTE_MAX = 4096 /* bytes */
};

struct folder {
	size_t files;
	uint64_t bytes;
	time_t oldest; /* 0: none */
};

/* Counts the files of a folder. Returns false with errno set. */
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

/* Returns the reason in a note of refused/, which the caller frees; or NULL. */
static char *read_reason(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	struct spool_refusal refusal = { 0 };
	struct buf text = { 0 };

	if (fd < 0 || !read_all(fd, NOTE_MAX, &text) || !text.length ||
	    !spool_refusal_parse(text.data, &refusal))
		refusal.reason = NULL;
	if (fd >= 0)
		close(fd);
	buf_free(&text);
	return refusal.reason;
}

/* Reports how many events the database refuses, with one of the reasons. */
static void report_refused(struct findings *f, size_t count, const char *reason)
{
	char sqlstate[6] = "", *remedy;

	/* A reason begins with its SQLSTATE. */
	if (reason)
		snprintf(sqlstate, sizeof(sqlstate), "%s", reason);
	remedy = xasprintf("%s; humcli-webhook spool list names the events, "
			   "and humcli-webhook spool drain tries them again",
			   sqlstate_advice(sqlstate));
	report_finding(f, FINDING_FAILURE, "spool", remedy,
		       "the database refuses %zu waiting event%s (%s)", count,
		       PLURAL_S(count),
		       reason ? reason : "the reason is unreadable");
	free(remedy);
}

/* Looks for notes on events that the database refuses. */
static void check_refused(struct findings *f, const char *spool)
{
	char *path = xasprintf("%s/refused", spool);
	DIR *d = opendir(path);
	const struct dirent *e;
	char *reason = NULL;
	size_t count = 0;

	while (d && (e = readdir(d))) {
		if (*e->d_name == '.')
			continue;
		count++;
		if (!reason)
			reason = read_reason(dirfd(d), e->d_name);
	}
	if (d)
		closedir(d);
	if (count)
		report_refused(f, count, reason);
	free(reason);
	free(path);
}

static void check_waiting(struct findings *f, const struct settings *s,
			  const struct folder *new, const struct folder *failed)
{
	long age = new->files ? (long)(time(NULL) - new->oldest) : 0;

	if (new->files)
		report_finding(
			f,
			age > LONG_WAIT_S ? FINDING_FAILURE : FINDING_WARNING,
			"spool",
			"humcli-webhook spool list says why they wait; "
			"humcli-webhook spool drain records them now",
			"%zu event%s in it, the oldest for %ld s", new->files,
			new->files == 1 ? " waits" : "s wait", age);
	else
		report_finding(f, FINDING_OK, "spool", NULL,
			       "no event waits in it");
	if (new->bytes > s->spool_max / 10 * 8)
		report_finding(f, FINDING_FAILURE, "spool",
			       "let PostgreSQL accept events again, or raise "
			       "HUMCLI_WEBHOOK_SPOOL_MAX",
			       "it is over four fifths full");
	if (failed->files)
		report_finding(
			f, FINDING_WARNING, "spool",
			"humcli-webhook spool list names them, and the log has "
			"the reasons; if a secret is active again: "
			"humcli-webhook spool retry-failed",
			"%zu file%s moved to failed/", failed->files,
			failed->files == 1 ? " was" : "s were");
	if (new->files)
		check_refused(f, s->spool);
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

static bool fail(struct spool_trial *t, const char *step)
{
	t->step = step;
	t->error = errno;
	return false;
}

/* Uses a spool as the receiver does. Returns false with the failed step. */
static bool try_spool(const char *spool, bool *no_links, struct spool_trial *t)
{
	struct spool_disk disk = { .path = (char *)spool };
	bool ok = spool_disk_try(&disk, t);

	*no_links = atomic_load(&disk.no_links);
	return ok;
}

/* Returns the nearest folder above path that exists; the caller frees it. */
static char *existing_parent(const char *path)
{
	char *text = xstrdup(path), *at = text, *parent;

	do
		at = dirname(at);
	while (access(at, F_OK) < 0 && errno == ENOENT && at[1]);
	parent = xstrdup(at);
	free(text);
	return parent;
}

/*
 * Returns true if the receiver can create a spool that is missing, and the
 * folders above it.
 */
static bool try_to_create(struct spool_trial *t, const char *spool)
{
	char *parent = existing_parent(spool);
	char *path = xasprintf("%s/.humcli-webhook.doctor.%ld", parent,
			       (long)getpid());
	bool ok = mkdir(path, 0700) == 0, no_links;

	if (!ok) {
		fail(t, "create it");
	} else {
		ok = try_spool(path, &no_links, t);
		if (rmdir(path) < 0 && ok)
			ok = fail(t, "remove a folder");
	}
	free(path);
	free(parent);
	return ok;
}

/* Returns the commands that create the spool; the caller frees them. */
static char *creation_remedy(const char *spool)
{
	const struct passwd *user = getpwuid(geteuid());
	const char *name = user ? user->pw_name : "USER";

	return xasprintf("as root: install -d -m 0700 -o %s -g $(id -gn %s) %s",
			 name, name, spool);
}

static void report_trial(struct findings *f, const char *spool,
			 const struct spool_trial *t)
{
	char *remedy = t->error == EACCES || t->error == EPERM ||
				       t->error == ENOENT
			       ? creation_remedy(spool)
		       : t->error == ENOSPC || t->error == EDQUOT
			       ? xstrdup("make room: events can't be spooled "
					 "on a full disk or over a quota")
		       : t->error == EROFS
			       ? xasprintf("mount it writable; for the service "
					   "of systemd: systemctl edit "
					   "humcli-webhook.service, with "
					   "[Service] ReadWritePaths=%s",
					   spool)
			       : xstrdup("choose another place with "
					 "HUMCLI_WEBHOOK_SPOOL");

	report_finding(f, FINDING_FAILURE, "spool", remedy,
		       "%s can't be used: can't %s: %s", spool, t->step,
		       strerror(t->error));
	free(remedy);
}

/* Checks a spool that exists. */
static void check_content(struct findings *f, const struct settings *s,
			  const struct stat *st)
{
	struct folder new, failed;

	if (st->st_mode & 077) {
		char *remedy = xasprintf(
			"chmod 700 %s; others could read and write events there",
			s->spool);

		report_finding(f, FINDING_FAILURE, "spool", remedy,
			       "%s is open to others (%03o)", s->spool,
			       (unsigned)(st->st_mode & 0777));
		free(remedy);
	}
	if (count_folder(s->spool, "new", &new) &&
	    count_folder(s->spool, "failed", &failed))
		check_waiting(f, s, &new, &failed);
	else
		report_finding(f, FINDING_FAILURE, "spool",
			       "chown -R it to the receiver's user",
			       "can't read %s: %s", s->spool, strerror(errno));
	check_space(f, s->spool);
}

/* Returns true if the spool is another user's and so can't be judged. */
static bool is_foreign(const struct stat *st)
{
	return geteuid() != 0 && st->st_uid != geteuid();
}

void doctor_spool(struct findings *f, const struct settings *s)
{
	struct spool_trial t = { 0 };
	struct stat st;
	bool no_links;

	if (!*s->spool) {
		report_finding(
			f, FINDING_WARNING, "spool",
			"set HUMCLI_WEBHOOK_SPOOL: without a spool, an event "
			"that comes while PostgreSQL is unavailable is "
			"answered 503",
			"no spool is set");
		return;
	}
	if (stat(s->spool, &st) < 0) {
		if (errno != ENOENT) {
			fail(&t, "read its mode");
			report_trial(f, s->spool, &t);
		} else if (try_to_create(&t, s->spool)) {
			report_finding(f, FINDING_OK, "spool", NULL,
				       "%s does not exist yet; the receiver "
				       "can create it",
				       s->spool);
		} else {
			report_trial(f, s->spool, &t);
		}
		return;
	}
	if (is_foreign(&st)) {
		const struct passwd *owner = getpwuid(st.st_uid);
		char *remedy = xasprintf(
			"run the doctor as its owner: sudo -u %s "
			"humcli-webhook doctor; or chown it to the receiver's "
			"user",
			owner ? owner->pw_name : "USER");

		report_finding(f,
			       f->by_root ? FINDING_FAILURE : FINDING_SKIPPED,
			       "spool", remedy, "%s belongs to %s", s->spool,
			       owner ? owner->pw_name : "another user");
		free(remedy);
		return;
	}
	if (!try_spool(s->spool, &no_links, &t))
		report_trial(f, s->spool, &t);
	else if (no_links)
		report_finding(f, FINDING_OK, "spool", NULL,
			       "its file system has no hard links; files are "
			       "renamed");
	check_content(f, s, &st);
}
