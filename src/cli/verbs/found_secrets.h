/*
 * The secrets that the settings name: HUMCLI_WEBHOOK_SECRET, SECRET_FILE, and
 * the files of SECRET_DIR.
 */
#ifndef FOUND_SECRETS_H
#define FOUND_SECRETS_H

#include <stddef.h>

#include "base/macros.h"
#include "cli/cli.h"
#include "config/settings.h"

/* A secret of the settings: HUMCLI_WEBHOOK_SECRET, or a file. */
struct found_secret {
	char *name;
	char *path; /* NULL: HUMCLI_WEBHOOK_SECRET */
	char *problem; /* NULL: the receiver accepts the secret */
};

struct found_secrets {
	struct found_secret *list;
	size_t count;
};

/*
 * Finds the secrets, in the order of their names; SECRET_DIR's are all files
 * but hidden ones. Returns an exit code; reports a folder that can't be read.
 * The caller frees all.
 */
int find_secrets(const struct verb *v, const struct settings *s,
		 struct found_secrets *all) MUST_CHECK;
void found_secrets_free(struct found_secrets *all);

/* Fills in the problem of each file, as this process can read it. */
void found_secrets_judge(struct found_secrets *all, const struct settings *s);

/*
 * Returns why the receiver does not accept a secret's file; NULL if it accepts
 * the file. The caller frees the text.
 */
char *secret_file_problem(const struct settings *s,
			  const char *path) MUST_CHECK;

/* Reports by errno why SECRET_DIR can't be read. Returns an exit code. */
int report_secret_dir(const struct verb *v, const struct settings *s);

/* Returns the secret of that name, or NULL. */
const struct found_secret *found_secret(const struct found_secrets *all,
					const char *name) MUST_CHECK;

#endif
