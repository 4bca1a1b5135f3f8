#include "cli/doctor/doctor.h"

#include "base/buf.h"
#include "base/macros.h"
#include "config/secrets.h"

#include <string.h>

enum { SHORT_SECRET = 16 /* bytes */ };

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
