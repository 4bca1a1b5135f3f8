/*
 * secret: adds a secret as a file of SECRET_DIR, lists the secrets, or removes
 * one. A secret is printed only when it is added. The files are read by
 * secrets_open(), as the receiver reads them. Root lists as the receiver's user
 * in a child process, because root can read what the receiver can't.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "cli/json.h"
#include "cli/new_file.h"
#include "cli/new_secret.h"
#include "cli/program.h"
#include "cli/query.h"
#include "cli/table.h"
#include "cli/verbs/found_secrets.h"
#include "config/secrets.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct job {
	const struct verb *verb;
	struct settings settings;
	struct query_form form;
	const char *url;
	bool force;
	const char *name; /* the operand; NULL if there is none */
};

/* Fills in whose a file is. Both names are the caller's to free. */
static void describe_file(const char *path, struct listed_secret *l,
			  char mode[8], char changed[TIME_TEXT_SIZE])
{
	const struct group *group;
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return;
	snprintf(mode, 8, "%04o", (unsigned)st.st_mode & 07777);
	format_time(st.st_mtim.tv_sec * INT64_C(1000000), changed);
	l->mode = mode;
	l->changed = changed;
	l->owner = cli_owner_name(path);
	group = getgrgid(st.st_gid);
	l->group = group ? xstrdup(group->gr_name)
			 : xasprintf("%lu", (unsigned long)st.st_gid);
}

static const char *const titles[] = { "name",  "accepted", "problem", "mode",
				      "owner", "group",	   "changed", "file" };

static void print_found(const struct job *j, const struct found_secret *f,
			struct table *t)
{
	char mode[8], changed[TIME_TEXT_SIZE];
	struct listed_secret l = { .name = f->name,
				   .file = f->path,
				   .accepted = !f->problem,
				   .in_path = secret_name_fits_path(
					   f->name, strlen(f->name)),
				   .problem = f->problem };

	describe_file(f->path, &l, mode, changed);
	if (j->form.json) {
		char *line = json_secret_line(&l);

		puts(line);
		free(line);
	} else {
		const char *cells[] = { l.name,	   l.accepted ? "yes" : "no",
					l.problem, l.mode,
					l.owner,   l.group,
					l.changed, l.file };

		for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
			(l.problem && (i == 1 || i == 2)
				 ? table_add_wrong
				 : table_add_cell)(t, cells[i]);
	}
	free(l.owner);
	free(l.group);
}

/* Lists the secrets, as the user of this process can read them. */
static int list_as_we_are(void *context)
{
	const struct job *j = context;
	struct found_secrets all = { 0 };
	struct table t = { 0 };
	int code = find_secrets(j->verb, &j->settings, &all);

	found_secrets_judge(&all, &j->settings);
	for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
		table_add_column(&t, titles[i]);
	for (size_t i = 0; code == EX_OK && i < all.count; i++)
		print_found(j, &all.list[i], &t);
	if (code == EX_OK && !j->form.json)
		table_print(&t, j->form.wide);
	table_free(&t);
	found_secrets_free(&all);
	return code;
}

static int list(void *context)
{
	char *user = geteuid() == 0 ? cli_receiver_user() : NULL;
	int code;

	if (!user || !cli_run_as(user, list_as_we_are, context, &code))
		code = list_as_we_are(context);
	free(user);
	return code;
}

/* Refuses a name that no path of a request can carry. */
static int check_name(const struct job *j)
{
	if (!j->name)
		return cli_usage_error(j->verb, "the secret's name is missing");
	if (secret_name_fits_path(j->name, strlen(j->name)))
		return EX_OK;
	if (strcmp(j->name, "health") == 0)
		cli_error(j->verb, "'health' can't be a secret's name, because "
				   ".../health is the receiver's own address");
	else
		cli_error(j->verb,
			  "'%s' can't be a secret's name; a name has 1 to %d "
			  "characters of A-Z, a-z, 0-9, '.', '_' and '-', and "
			  "no '.' first",
			  j->name, SECRET_PATH_NAME_MAX);
	return EX_USAGE;
}

/*
 * Chooses whose a new file of SECRET_DIR is: as init makes it. It has the
 * folder's group, which the receiver is in, and the group may read it if it may
 * read the folder. Root falls back on the group that may read the settings.
 */
static struct new_file choose_owner(const struct job *j, const struct stat *dir)
{
	struct new_file how = { .chown = geteuid() == 0,
				.uid = dir->st_uid,
				.gid = dir->st_gid };
	struct stat conf;
	bool shared = dir->st_mode & S_IRGRP;

	if (how.chown && dir->st_uid == 0 && dir->st_gid == 0 &&
	    j->settings.file && stat(j->settings.file, &conf) == 0 &&
	    conf.st_gid != 0) {
		how.gid = conf.st_gid;
		shared = true;
	}
	how.mode = shared ? 0640 : 0600;
	return how;
}

static void print_added(const struct job *j, const char *path,
			const struct new_file *how, const struct buf *secret)
{
	bool home = j->settings.file &&
		    strstr(j->settings.file, "/.humcli-webhook/");
	char *base = j->url ? xstrdup(j->url) : secret_guess_url(home);
	char *url = secret_url(base, j->name);

	if (j->form.json) {
		char *line =
			json_added_secret(j->name, path, url, secret->data);

		puts(line);
		explicit_bzero(line, strlen(line));
		free(line);
	} else {
		printf("made: %s, mode %04o\n"
		       "The receiver accepts it within 1 s. Give HumCLI these "
		       "two fields with a task%s:\n\n"
		       "  \"callback_url\": \"%s\",\n"
		       "  \"callback_secret\": \"%s\"\n",
		       path, (unsigned)how->mode,
		       j->url ? "" : " (--url URL, if yours is another)", url,
		       secret->data);
	}
	free(base);
	free(url);
}

struct judged {
	const struct settings *settings;
	const char *path;
	const struct verb *verb;
};

/* Reports why the receiver would not accept a new file. */
static int judge_file(void *context)
{
	const struct judged *n = context;
	char *problem = secret_file_problem(n->settings, n->path);

	if (problem)
		cli_error(n->verb, "the receiver does not accept %s: %s",
			  n->path, problem);
	free(problem);
	return problem ? EX_CONFIG : EX_OK;
}

/* Checks a new file as the receiver's user if we are root. */
static int judge_as_receiver(const struct job *j, const char *path)
{
	struct judged n = { &j->settings, path, j->verb };
	char *user = geteuid() == 0 ? cli_receiver_user() : NULL;
	int code;

	if (!user || !cli_run_as(user, judge_file, &n, &code))
		code = judge_file(&n);
	free(user);
	return code;
}

static int report_not_made(const struct job *j, const char *path)
{
	if (errno == EEXIST)
		cli_error(j->verb,
			  "the secret '%s' exists already, %s; choose another "
			  "name, or remove it first",
			  j->name, path);
	else
		cli_error(j->verb, "can't make %s: %s%s", path, strerror(errno),
			  errno == EACCES ? "; run it with sudo, or as the "
					    "owner of the folder"
					  : "");
	return errno == EACCES || errno == EPERM ? EX_NOPERM : EX_CANTCREAT;
}

static int make_secret(const struct job *j, const char *path,
		       const struct stat *dir)
{
	const struct new_file how = choose_owner(j, dir);
	struct buf secret = { 0 };
	int code = EX_OK;

	if (!secret_draw(&secret)) {
		cli_error(j->verb, "can't draw random bytes: %s",
			  strerror(errno));
		code = EX_OSERR;
	} else if (!new_file_create(path, &how, &secret)) {
		code = report_not_made(j, path);
	}
	if (code == EX_OK) {
		code = judge_as_receiver(j, path);
		print_added(j, path, &how, &secret);
	}
	buf_wipe(&secret);
	return code;
}

static int add(void *context)
{
	const struct job *j = context;
	const struct settings *s = &j->settings;
	struct found_secrets all = { 0 };
	struct stat dir;
	char *path;
	int code = check_name(j);

	if (code != EX_OK)
		return code;
	if (!s->secret_dir) {
		cli_error(
			j->verb,
			"HUMCLI_WEBHOOK_SECRET_DIR is not set, so there is no "
			"folder of secrets; humcli-webhook init sets it");
		return EX_CONFIG;
	}
	if (stat(s->secret_dir, &dir) < 0)
		return report_secret_dir(j->verb, &j->settings);
	path = xasprintf("%s/%s", s->secret_dir, j->name);
	code = find_secrets(j->verb, &j->settings, &all);
	if (code == EX_OK && found_secret(&all, j->name)) {
		const char *other = found_secret(&all, j->name)->path;

		errno = EEXIST;
		code = report_not_made(j, other ? other
						: "of HUMCLI_WEBHOOK_SECRET");
	} else if (code == EX_OK) {
		code = make_secret(j, path, &dir);
	}
	found_secrets_free(&all);
	free(path);
	return code;
}

/* Reports that there is no such secret, and which there are. */
static int report_unknown(const struct job *j, const struct found_secrets *all)
{
	enum { NAMED = 10 };
	struct buf names = { 0 };

	buf_add(&names, "", 0);
	for (size_t i = 0; i < all->count && i < NAMED; i++) {
		buf_printf(&names, "%s", i ? ", " : "");
		cli_escape(&names, all->list[i].name);
	}
	if (all->count > NAMED)
		buf_printf(&names, " and %zu more", all->count - NAMED);
	cli_error(j->verb, "no secret is named '%s'; there %s: %s", j->name,
		  all->count == 1 ? "is" : "are",
		  all->count ? names.data : "none");
	buf_free(&names);
	return EXIT_NEGATIVE;
}

static size_t count_others(const struct found_secrets *all,
			   const struct found_secret *f)
{
	size_t count = 0;

	for (size_t i = 0; i < all->count; i++)
		count += &all->list[i] != f && !all->list[i].problem;
	return count;
}

/* Returns true for a file of SECRET_DIR, which may be removed. */
static bool is_ours(const struct job *j, const struct found_secret *f)
{
	size_t length = j->settings.secret_dir ? strlen(j->settings.secret_dir)
					       : 0;

	return f->path && length &&
	       strncmp(f->path, j->settings.secret_dir, length) == 0 &&
	       f->path[length] == '/' &&
	       strcmp(f->path + length + 1, f->name) == 0;
}

static int remove_found(const struct job *j, const struct found_secrets *all)
{
	const struct found_secret *f = found_secret(all, j->name);

	if (!f)
		return report_unknown(j, all);
	if (!is_ours(j, f)) {
		cli_error(j->verb,
			  "'%s' is the secret of HUMCLI_WEBHOOK_SECRET%s: "
			  "remove it from the settings instead",
			  f->name, f->path ? "_FILE" : "");
		return EXIT_NEGATIVE;
	}
	if (!j->force && !f->problem && !count_others(all, f)) {
		cli_error(j->verb,
			  "'%s' is the last secret, and without one every "
			  "delivery is answered 401; --force removes it all "
			  "the same",
			  f->name);
		return EXIT_NEGATIVE;
	}
	if (unlink(f->path) < 0 || !new_file_sync_parent(f->path)) {
		cli_error(j->verb, "can't remove %s: %s%s", f->path,
			  strerror(errno),
			  errno == EACCES ? "; run it with sudo, or as the "
					    "owner of the folder"
					  : "");
		return EX_NOPERM;
	}
	printf("removed: %s\n"
	       "Within 1 s the receiver answers 401 to what is signed with "
	       "it.\n",
	       f->path);
	return EX_OK;
}

static int remove_secret(void *context)
{
	const struct job *j = context;
	struct found_secrets all = { 0 };
	int code;

	if (!j->name)
		return cli_usage_error(j->verb, "the secret's name is missing");
	code = find_secrets(j->verb, &j->settings, &all);
	found_secrets_judge(&all, &j->settings);
	if (code == EX_OK)
		code = remove_found(j, &all);
	found_secrets_free(&all);
	return code;
}

static const struct cli_action actions[] = {
	{ "add", add, 1, "url json" },
	{ "list", list, 0, "json wide" },
	{ "remove", remove_secret, 1, "force" },
};

int cmd_secret(const struct verb *v, int argc, char **argv)
{
	struct job j = { .verb = v };
	const struct cli_option options[] = {
		{ "url", &j.url, NULL, "URL",
		  "append the name to this URL of the receiver (default: a "
		  "guess by the host's name)" },
		{ "force", NULL, &j.force, NULL,
		  "remove the last secret, too" },
		QUERY_FORM_OPTIONS(j.form),
	};
	const struct cli_action *action;
	int code;

	action = cli_choose_action(v, &argc, &argv, options,
				   ARRAY_SIZE(options), actions,
				   ARRAY_SIZE(actions), &code);
	if (!action)
		return code;
	if (j.url && strncmp(j.url, "https://", 8) != 0)
		return cli_usage_error(
			v, "--url has to start with https://: HumCLI "
			   "accepts no other callback_url");
	j.name = argv[0];
	code = cli_load_settings(v, &j.settings);
	if (code == EX_OK)
		code = action->run(&j);
	settings_free(&j.settings);
	return code;
}
