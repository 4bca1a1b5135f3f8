/*
 * init: reads the options, then sets up files (cli/init/files.c) and the
 * database (cli/init/database.c), checks the connection like doctor, and prints
 * the next steps.
 */
#include "cli/init/init.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/doctor/doctor.h"
#include "cli/program.h"
#include "config/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Connects as the receiver does. Returns the worst exit code of the checks. */
static int check_database(void *context)
{
	const struct settings *s = context;
	struct findings f;

	if (!findings_begin(&f, FINDINGS_TEXT))
		return EX_OSERR;
	doctor_database(&f, s->database, NULL);
	return findings_end(&f) == 2 ? EXIT_NEGATIVE : EX_OK;
}

static int check(const struct init *i, struct settings *s)
{
	int code;

	puts("\nThe way to the database, as the receiver has it:\n");
	if (i->home || !cli_run_as("humcli-webhook", check_database, s, &code))
		code = check_database(s);
	return code;
}

/*
 * Reads the conninfo from stdin for "-", because all users see a command line.
 */
static int read_database(struct init *i, struct buf *line)
{
	if (!i->database || strcmp(i->database, "-") != 0)
		return EX_OK;
	if (!cli_read(i->verb, "-", line))
		return EX_NOINPUT;
	i->database = line->data;
	line->data[strcspn(line->data, "\r\n")] = '\0';
	return EX_OK;
}

static int set_up(struct init *i)
{
	struct settings settings = { 0 };
	struct buf line = { 0 };
	int code = read_database(i, &line);

	if (code == EX_OK)
		code = init_files(i, &settings);
	if (code == EX_OK)
		code = init_database(i, &settings);
	if (code == EX_OK && !i->dry_run)
		code = check(i, &settings);
	if (code == EX_OK)
		init_print_next_steps(i);
	settings_free(&settings);
	buf_wipe(&line);
	free(i->config);
	free(i->secret);
	return code;
}

int cmd_init(const struct verb *v, int argc, char **argv)
{
	struct init i = { .verb = v };
	const struct cli_option options[] = {
		{ "home", NULL, &i.home },   { "dry-run", NULL, &i.dry_run },
		{ "url", &i.url, NULL },     { "database", &i.database, NULL },
		{ "admin", &i.admin, NULL }, { "server", &i.server, NULL },
	};
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (i.server && strcmp(i.server, "apache") != 0 &&
	    strcmp(i.server, "lighttpd") != 0)
		return cli_usage_error(v, "--server is apache or lighttpd");
	if (i.url && strncmp(i.url, "https://", 8) != 0)
		return cli_usage_error(
			v, "--url has to start with https://: HumCLI "
			   "takes no other callback_url");
	if (!i.home && !i.dry_run && geteuid() != 0) {
		cli_error(v, "run it with sudo, for the whole system, or give "
			     "--home, for this account alone");
		return EX_NOPERM;
	}
	return set_up(&i);
}
