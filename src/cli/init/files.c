/*
 * Creates the files: settings, a secret, the spool's folder. A file appears
 * whole and synced or not at all, and never replaces another; so init can be
 * run again after it was interrupted. Knows nothing of the database.
 */
#include "cli/init/init.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "cli/new_file.h"
#include "cli/new_secret.h"
#include "config/secrets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char first_secret[] = "main";

static int fail(const struct init *i, const char *path)
{
	cli_error(i->verb, "%s: %s", path, strerror(errno));
	return errno == EACCES || errno == EPERM ? EX_NOPERM : EX_CANTCREAT;
}

/* Returns the mode of a file that the receiver reads: by its group or alone. */
static mode_t file_mode(const struct init *i, mode_t group, mode_t alone)
{
	return i->home ? alone : group;
}

/* Creates the folders above path that are missing, for all to enter. */
static bool make_parents(const char *path)
{
	char *copy = xstrdup(path);
	bool ok = true;

	for (char *slash = strchr(copy + 1, '/'); slash && ok;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		ok = mkdir(copy, 0755) == 0 || errno == EEXIST;
		*slash = '/';
	}
	free(copy);
	return ok;
}

/* A folder to create, whatever the umask is. */
struct folder {
	const char *path;
	mode_t mode;
	uid_t uid; /* not for an account's own */
};

/* Creates a folder; one that exists is left alone. */
static int make_folder(struct init *i, const struct folder *f)
{
	struct stat st;

	if (stat(f->path, &st) == 0 && S_ISDIR(st.st_mode)) {
		init_report(i, true, "%s", f->path);
		return EX_OK;
	}
	init_report(i, false, "%s, mode %04o", f->path, (unsigned)f->mode);
	if (i->dry_run)
		return EX_OK;
	/* chown() clears the set-group-ID bit, so chmod() comes last. */
	if (!make_parents(f->path) || mkdir(f->path, 0700) < 0 ||
	    (!i->home && chown(f->path, f->uid, i->gid) < 0) ||
	    chmod(f->path, f->mode) < 0 || !new_file_sync_parent(f->path))
		return fail(i, f->path);
	return EX_OK;
}

/* Creates a file of root's, or of the account's own. */
static int make_file(struct init *i, const char *path, mode_t mode,
		     const struct buf *text)
{
	const struct new_file how = { .mode = mode,
				      .chown = !i->home,
				      .gid = i->gid };

	init_report(i, false, "%s, mode %04o", path, (unsigned)mode);
	if (i->dry_run || new_file_create(path, &how, text))
		return EX_OK;
	return fail(i, path);
}

static int make_secret(struct init *i, const char *path)
{
	struct buf text = { 0 };
	int code;

	if (!secret_draw(&text))
		return fail(i, path);
	code = make_file(i, path, file_mode(i, 0640, 0600), &text);
	buf_wipe(&text);
	return code;
}

/* Loads settings that exist, as the receiver does. */
static int load(struct init *i, struct settings *s)
{
	int code = cli_load_settings(i->verb, s);

	if (code != EX_OK)
		return code;
	if (s->file && strcmp(s->file, i->config) != 0) {
		cli_error(i->verb,
			  "the receiver would read %s, not %s: remove it, or "
			  "run init %s--home",
			  s->file, i->config, i->home ? "without " : "with ");
		code = EX_CONFIG;
	} else if (i->database && strcmp(i->database, s->database) != 0) {
		cli_error(
			i->verb,
			"%s names another database than --database: change it "
			"there",
			i->config);
		code = EX_CONFIG;
	}
	return code;
}

static int write_settings(struct init *i, const char *secret_dir)
{
	struct buf text = { 0 };
	int code;

	buf_printf(&text,
		   "# By humcli-webhook init. humcli-webhook.conf(5) has all "
		   "the keys.\n"
		   "HUMCLI_WEBHOOK_DATABASE=%s\n",
		   i->database);
	if (!i->home)
		buf_printf(&text, "HUMCLI_WEBHOOK_SECRET_DIR=%s\n", secret_dir);
	code = make_file(i, i->config, file_mode(i, 0640, 0600), &text);
	buf_wipe(&text);
	return code;
}

/* Fills the settings as if they had been written and read. */
static void assume_written(const struct init *i, struct settings *s,
			   const char *secret_dir)
{
	s->database = xstrdup(i->database);
	s->secret_dir = xstrdup(secret_dir);
	s->spool = xstrdup(LOCALSTATEDIR "/spool/humcli-webhook");
}

static int init_settings(struct init *i, struct settings *s,
			 const char *secret_dir)
{
	int code;

	if (access(i->config, F_OK) == 0) {
		init_report(i, true, "%s", i->config);
		return load(i, s);
	}
	if (!i->database && i->home)
		return cli_usage_error(i->verb,
				       "--database is missing, such as "
				       "'host=localhost dbname=you user=you "
				       "password=...'");
	if (!i->database)
		i->database = "dbname=humcli";
	code = write_settings(i, secret_dir);
	if (code != EX_OK)
		return code;
	if (!i->dry_run)
		return load(i, s);
	assume_written(i, s, secret_dir);
	return EX_OK;
}

/* Finds the first secret by name, or creates one. */
static int init_secret(struct init *i, const struct settings *s)
{
	struct buf errors = { 0 };
	struct secrets *secrets = secrets_open(s, &errors);
	const struct secret_set *set;
	int code = EX_OK;

	i->secret = xasprintf("%s/%s", s->secret_dir, first_secret);
	if (secrets) {
		set = secrets_acquire(secrets);
		if (set->count && s->secret_dir) {
			free(i->secret);
			i->secret = xasprintf("%s/%s", s->secret_dir,
					      set->list[0].name);
		}
		init_report(i, true, "the secret %s", i->secret);
		secrets_release(secrets, set);
		secrets_close(secrets);
	} else if (access(i->secret, F_OK) == 0) {
		/* secrets_open() failed, and not because a secret is missing. */
		code = i->dry_run ? EX_OK : cli_config_errors(i->verb, &errors);
	} else {
		code = make_secret(i, i->secret);
	}
	buf_free(&errors);
	return code;
}

/*
 * Creates the spool's folder. /var/spool is root's: the receiver could not
 * create it. In a home the receiver creates its own.
 */
static int init_spool(struct init *i, const struct settings *s)
{
	const struct folder spool = { s->spool, 0700, i->uid };

	return i->home || !*s->spool ? EX_OK : make_folder(i, &spool);
}

/* Creates all of them, below folder. */
static int make_all(struct init *i, struct settings *s, const char *folder)
{
	const struct folder own = { folder, 0700, 0 };
	char *secret_dir = xasprintf(
		i->home ? "%s/secrets" : "%s/humcli-webhook.secrets", folder);
	struct folder secrets = { .mode = file_mode(i, 02750, 0700) };
	int code = i->home ? make_folder(i, &own) : init_ensure_user(i);

	if (code == EX_OK)
		code = init_settings(i, s, secret_dir);
	if (code == EX_OK && !s->secret_dir)
		/* The settings have SECRET or SECRET_FILE but no SECRET_DIR. */
		s->secret_dir = xstrdup(secret_dir);
	secrets.path = s->secret_dir;
	if (code == EX_OK)
		code = make_folder(i, &secrets);
	if (code == EX_OK)
		code = init_secret(i, s);
	if (code == EX_OK)
		code = init_spool(i, s);
	free(secret_dir);
	return code;
}

int init_files(struct init *i, struct settings *s)
{
	const struct settings_sources places = settings_sources();
	char *folder;
	int code;

	if (i->home && !places.home) {
		cli_error(i->verb, "this user has no home");
		return EX_OSFILE;
	}
	folder = i->home ? xasprintf("%s/.humcli-webhook", places.home)
			 : xstrdup(SYSCONFDIR);
	i->config = xasprintf("%s/humcli-webhook.conf", folder);
	code = make_all(i, s, folder);
	free(folder);
	return code;
}
