#include "cli/init/init.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/hmac.h"
#include "base/random.h"
#include "cli/program.h"
#include "config/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
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

/* The mode of what the receiver reads: by its group, or by us alone. */
static mode_t file_mode(const struct init *i, mode_t group, mode_t alone)
{
	return i->home ? alone : group;
}

/* A folder and its owners, whatever the umask; one that is there is kept. */
static int make_folder(const struct init *i, const char *path, mode_t mode)
{
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		init_report(i, true, "%s", path);
		return EX_OK;
	}
	init_report(i, false, "%s, mode %04o", path, (unsigned)mode);
	if (i->dry_run)
		return EX_OK;
	/* chown() takes the set-group-ID bit off: chmod() comes last. */
	if (mkdir(path, 0700) < 0 || (!i->home && chown(path, 0, i->gid) < 0) ||
	    chmod(path, mode) < 0)
		return fail(i, path);
	return EX_OK;
}

static bool write_and_sync(const struct init *i, int fd, mode_t mode,
			   const struct buf *text)
{
	return write_all(fd, text->data, text->length) &&
	       (i->home || fchown(fd, 0, i->gid) == 0) &&
	       fchmod(fd, mode) == 0 && fsync(fd) == 0;
}

/* There at once and whole; never in the place of another. */
static int make_file(const struct init *i, const char *path, mode_t mode,
		     const struct buf *text)
{
	char *folder = xstrdup(path), *temporary = NULL;
	int fd = -1, code = EX_OK;

	init_report(i, false, "%s, mode %04o", path, (unsigned)mode);
	if (i->dry_run)
		goto out;
	/* The leading dot: a receiver at work passes it over. */
	temporary = xasprintf("%s/.init.XXXXXX", dirname(folder));
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0 || !write_and_sync(i, fd, mode, text) ||
	    link(temporary, path) < 0)
		code = fail(i, path);
	if (fd >= 0) {
		unlink(temporary);
		close(fd);
	}
out:
	free(temporary);
	free(folder);
	return code;
}

static int make_secret(const struct init *i, const char *path)
{
	unsigned char drawn[HMAC_BYTES];
	char hex[HMAC_HEX + 1];
	struct buf text = { 0 };
	int code;

	if (!random_bytes(drawn, sizeof(drawn)))
		return fail(i, path);
	hmac_to_hex(drawn, hex);
	buf_printf(&text, "whsec_%s", hex);
	code = make_file(i, path, file_mode(i, 0640, 0600), &text);
	buf_wipe(&text);
	explicit_bzero(hex, sizeof(hex));
	explicit_bzero(drawn, sizeof(drawn));
	return code;
}

/* The user and group of an installation for the whole system. */
static bool find_user(struct init *i)
{
	const struct passwd *user = getpwnam("humcli-webhook");

	if (!user)
		return false;
	i->uid = user->pw_uid;
	i->gid = user->pw_gid;
	return true;
}

static int ensure_user(struct init *i)
{
	char program[] = "systemd-sysusers";
	char *argv[] = { program, NULL };

	if (find_user(i)) {
		init_report(i, true, "the system user humcli-webhook");
		return EX_OK;
	}
	init_report(i, false,
		    "the system user humcli-webhook, by "
		    "systemd-sysusers");
	if (i->dry_run)
		return EX_OK;
	if (cli_run_program(argv) && find_user(i))
		return EX_OK;
	cli_error(
		i->verb,
		"there is no user humcli-webhook, and systemd-sysusers did not "
		"make it: useradd --system --home-dir /var/lib/humcli-webhook "
		"humcli-webhook, and again");
	return EX_OSFILE;
}

/* Settings that are there count as they are. */
static int load(const struct init *i, struct settings *s)
{
	int code = cli_load_settings(i->verb, s);

	if (code != EX_OK)
		return code;
	if (s->file && strcmp(s->file, i->config) != 0) {
		cli_error(i->verb,
			  "the receiver would read %s, not %s: remove it, or "
			  "give %s--home",
			  s->file, i->config, i->home ? "no " : "");
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

static int write_settings(const struct init *i, const char *secret_dir)
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

/* As if they had been written and read. */
static void assume_written(const struct init *i, struct settings *s,
			   const char *secret_dir)
{
	s->database = xstrdup(i->database);
	s->secret_dir = xstrdup(secret_dir);
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

/* The first by name of those that are there, else one that is made. */
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
		/* Not for want of a secret. */
		code = i->dry_run ? EX_OK : cli_config_errors(i->verb, &errors);
	} else {
		code = make_secret(i, i->secret);
	}
	buf_free(&errors);
	return code;
}

int init_files(struct init *i, struct settings *s)
{
	const struct settings_sources places = settings_sources();
	char *folder, *secret_dir;
	int code = EX_OK;

	if (i->home && !places.home) {
		cli_error(i->verb, "this user has no home");
		return EX_OSFILE;
	}
	folder = i->home ? xasprintf("%s/.humcli-webhook", places.home)
			 : xstrdup(SYSCONFDIR);
	secret_dir = xasprintf(
		i->home ? "%s/secrets" : "%s/humcli-webhook.secrets", folder);
	i->config = xasprintf("%s/humcli-webhook.conf", folder);
	if (i->home)
		code = make_folder(i, folder, 0700);
	else
		code = ensure_user(i);
	if (code == EX_OK)
		code = init_settings(i, s, secret_dir);
	if (code == EX_OK && !s->secret_dir)
		/* Whoever has SECRET or SECRET_FILE has chosen so. */
		s->secret_dir = xstrdup(secret_dir);
	if (code == EX_OK)
		code = make_folder(i, s->secret_dir, file_mode(i, 02750, 0700));
	if (code == EX_OK)
		code = init_secret(i, s);
	free(secret_dir);
	free(folder);
	return code;
}
