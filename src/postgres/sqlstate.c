/*
 * Owns the judgement on errors of PostgreSQL (its manual, appendix A). Knows
 * nothing of connections: all functions look at the SQLSTATE alone, by its
 * first characters.
 */
#include "postgres/sqlstate.h"

#include <stddef.h>
#include <string.h>
#include <sysexits.h>

static bool starts_with(const char *sqlstate, const char *prefix)
{
	return strncmp(sqlstate, prefix, strlen(prefix)) == 0;
}

static bool has_prefix_in(const char *sqlstate, const char *const *prefixes)
{
	for (; *prefixes; prefixes++) {
		if (starts_with(sqlstate, *prefixes))
			return true;
	}
	return false;
}

bool sqlstate_blames_server(const char *sqlstate)
{
	static const char *const classes[] = { "08", "25", "28", "3D",
					       "3F", "40", "42", "53",
					       "55", "57", "58", NULL };

	return *sqlstate == '\0' || has_prefix_in(sqlstate, classes);
}

bool sqlstate_is_setup_error(const char *sqlstate)
{
	static const char *const classes[] = { "28", "3D", "3F", "42", NULL };

	return has_prefix_in(sqlstate, classes);
}

bool sqlstate_needs_new_connection(const char *sqlstate)
{
	static const char *const prefixes[] = { "08", "25", "57P", "58", NULL };

	return *sqlstate == '\0' || has_prefix_in(sqlstate, prefixes);
}

int sqlstate_exit_code(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		int code;
	} lasting[] = {
		{ "42501", EX_NOPERM }, /* insufficient_privilege */
		{ "42", EX_CONFIG }, /* no such function or table */
		{ "3F", EX_CONFIG }, /* no such schema */
		{ "55000", EX_DATAERR }, /* humcli.rebase() is due */
		{ "P0002", EX_DATAERR }, /* no such subscription */
		{ "22", EX_DATAERR }, /* invalid value */
	};

	for (size_t i = 0; i < ARRAY_SIZE(lasting); i++) {
		if (starts_with(sqlstate, lasting[i].prefix))
			return lasting[i].code;
	}
	return EX_OK;
}
