/* Statuses and times as a user types them, in the database's form. */
#ifndef STATUSES_H
#define STATUSES_H

#include "cli/cli.h"

/*
 * Returns a list of statuses with commas between and without spaces. A status
 * that HumCLI documents is accepted in any case; any other is accepted as it
 * is, with a warning. NULL stays NULL. The caller frees the list.
 */
char *cli_statuses(const struct verb *v, const char *list) MUST_CHECK;

/* Returns a status that HumCLI documents, from 0 on; NULL behind the last. */
const char *cli_documented_status(size_t i) MUST_CHECK;

/*
 * Returns a time for PostgreSQL: a duration such as 90min or 7d means so long
 * ago, any other text is returned as it is. NULL stays NULL. The caller frees
 * it.
 */
char *cli_time(const char *text) MUST_CHECK;

#endif
