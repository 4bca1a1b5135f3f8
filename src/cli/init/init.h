/*
 * What humcli-webhook init does, a file each: files, database, and what
 * it tells to do by hand.
 */
#ifndef INIT_H
#define INIT_H

#include "base/macros.h"
#include "cli/cli.h"
#include "config/settings.h"

#include <stdbool.h>
#include <sys/types.h>

struct init {
	const struct verb *verb;
	bool home; /* all below ~/.humcli-webhook */
	bool dry_run;
	const char *url; /* the callback_url; NULL: a guess */
	const char *database; /* conninfo; NULL: a default */
	const char *admin; /* conninfo to install with; NULL: see there */
	const char *server; /* "apache" or "lighttpd"; NULL: what is there */

	char *config; /* path of the settings file */
	char *secret; /* path of the secret HumCLI is to be given */
	uid_t uid; /* who reads them: the receiver's user and group */
	gid_t gid;
};

/* "  kept: …", "  made: …" or "  would make: …" */
void init_report(const struct init *i, bool done, const char *format, ...)
	PRINTF(3, 4);

/*
 * Settings and secret, where they are not there yet; fills config, secret
 * and settings. EX_OK, or the exit code of an error that was said.
 */
int init_files(struct init *i, struct settings *s) MUST_CHECK;

/*
 * The database, the schema and the role that the settings name. EX_OK, or
 * the exit code of an error that was said.
 */
int init_database(struct init *i, const struct settings *s) MUST_CHECK;

/* What is left to do, as commands to paste. */
void init_print_next_steps(const struct init *i);

#endif
