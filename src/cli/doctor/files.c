/*
 * Checks the settings' files and the secrets: where they are, who can read
 * them, and whether all of them are meant. Secrets are read by secrets_open(),
 * as the receiver reads them; no secret is ever printed.
 */
#include "cli/doctor/doctor.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "config/secrets.h"

#include <fnmatch.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHORT_SECRET = 16 /* bytes */ };

/* Returns true below a folder that is a document root on many hosts. */
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
			"move it to ~/.humcli-webhook or below /etc: anybody "
			"can fetch a file in a document root",
			"%s is in a document root: %s", what, path);
}

char *doctor_read_remedy(const char *path)
{
	const struct passwd *user = getpwuid(geteuid());
	const struct group *group;
	struct stat st;
	bool known = stat(path, &st) == 0;
	bool folder = known && S_ISDIR(st.st_mode);
	mode_t reads = folder ? S_IRGRP | S_IXGRP : S_IRGRP;

	if (known && st.st_uid == geteuid())
		return xasprintf("chmod %s %s", folder ? "u+rx" : "u+r", path);
	/* The receiver may be in that group. */
	group = known && st.st_gid != 0 && (st.st_mode & reads) == reads
			? getgrgid(st.st_gid)
			: NULL;
	if (group && user)
		return xasprintf("as root: usermod -a -G %s %s", group->gr_name,
				 user->pw_name);
	group = getgrgid(getegid());
	return xasprintf("as root: chgrp %s %s && chmod %s %s",
			 group ? group->gr_name : "GROUP", path,
			 folder ? "g+rx" : "g+r", path);
}

/*
 * Takes the next line of errors if it says how to fix the one before. Returns
 * NULL if it does not; the caller frees the result.
 */
static char *take_advice(const struct buf *errors, size_t *at)
{
	static const char mark[] = "create one: ";
	size_t next = *at, length;
	const char *start = buf_next_line(errors, &next, &length);

	if (!start || strncmp(start, mark, sizeof(mark) - 1) != 0)
		return NULL;
	*at = next;
	return xstrndup(start, length);
}

/* Returns how to fix an error line "...PATH: reason"; the caller frees it. */
static char *line_remedy(const char *line, const char *usual)
{
	static const char denied[] = ": Permission denied";
	const char *start = strchr(line, '/');
	size_t length = start ? strlen(start) : 0, tail = sizeof(denied) - 1;
	char *path, *remedy;

	if (length <= tail || strcmp(start + length - tail, denied) != 0)
		return xstrdup(usual);
	path = xstrndup(start, length - tail);
	remedy = doctor_read_remedy(path);
	free(path);
	return remedy;
}

void doctor_error_lines(struct findings *f, const char *topic,
			const struct buf *errors, const char *usual)
{
	size_t at = 0, length;
	const char *start;

	while ((start = buf_next_line(errors, &at, &length))) {
		char *line = xstrndup(start, length);
		char *remedy = take_advice(errors, &at);

		if (!remedy)
			remedy = line_remedy(line, usual);
		report_finding(f, FINDING_FAILURE, topic, remedy, "%s", line);
		free(remedy);
		free(line);
	}
}

/* Returns true for the name of an editor's or a package's backup. */
static bool is_backup(const char *name)
{
	static const char *const patterns[] = { "*~",	 "*.bak",  "*.swp",
						"*.swo", "*.orig", "*.old",
						"*.tmp", "#*#",	   "*.dpkg-*",
						"*.save" };

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	}
	return false;
}

static void check_secret(struct findings *f, const struct secret *secret)
{
	if (is_backup(secret->name))
		report_finding(f, FINDING_WARNING, "secrets",
			       "remove it, unless it is a secret: each file of "
			       "SECRET_DIR is accepted as one",
			       "%s, %zu byte%s, has the name of a backup",
			       secret->name, secret->length,
			       PLURAL_S(secret->length));
	else
		report_finding(
			f,
			secret->length < SHORT_SECRET ? FINDING_WARNING
						      : FINDING_OK,
			"secrets",
			"use a longer secret, because a short one can be "
			"guessed: humcli-webhook secret add NAME",
			"%s, %zu byte%s", secret->name, secret->length,
			PLURAL_S(secret->length));
}

/* Editors leave hidden copies, which are not accepted, but hold a secret. */
static void check_hidden_copies(struct findings *f, const char *folder)
{
	char *pattern = xasprintf("%s/.*.sw?", folder);
	glob_t found = { 0 };

	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			report_finding(f, FINDING_WARNING, "secrets",
				       "close the editor, and remove the file",
				       "%s is an editor's copy of a secret",
				       found.gl_pathv[i]);
		globfree(&found);
	}
	free(pattern);
}

static void check_secrets(struct findings *f, const struct settings *s)
{
	struct buf errors = { 0 };
	struct secrets *secrets = secrets_open(s, &errors);
	const struct secret_set *set;

	if (secrets) {
		set = secrets_acquire(secrets);
		for (size_t i = 0; i < set->count; i++)
			check_secret(f, &set->list[i]);
		secrets_release(secrets, set);
		secrets_close(secrets);
	} else {
		doctor_error_lines(f, "secrets", &errors,
				   "each secret is a file of SECRET_DIR, which "
				   "the receiver and nobody else can read");
	}
	if (s->secret_dir)
		check_hidden_copies(f, s->secret_dir);
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
