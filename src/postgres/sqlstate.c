/*
 * Owns the judgement on errors of PostgreSQL (its manual, appendix A). Knows
 * nothing of connections: all functions read the SQLSTATE alone, by its
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

bool sqlstate_is_data_error(const char *sqlstate)
{
	static const char *const prefixes[] = { "22", "54001", NULL };

	/*
	 * No data causes these: a sequence has reached its end, and the
	 * database's encoding lacks a character of UTF-8.
	 */
	return has_prefix_in(sqlstate, prefixes) &&
	       strcmp(sqlstate, "2200H") != 0 && strcmp(sqlstate, "22P05") != 0;
}

bool sqlstate_is_transient(const char *sqlstate)
{
	static const char *const prefixes[] = { "08", "25",  "40", "53",
						"55", "57P", NULL };

	/* Out of memory: the same statement again needs as much. */
	return *sqlstate == '\0' || (has_prefix_in(sqlstate, prefixes) &&
				     strcmp(sqlstate, "53200") != 0);
}

const char *sqlstate_advice(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		const char *advice;
	} table[] = {
		{ "2200H", "the identity sequence of a table in the schema "
			   "humcli has reached its end: set it back, or raise "
			   "its MAXVALUE" },
		{ "22P05", "the database needs the encoding UTF8: create "
			   "another one, and copy the tables into it" },
		{ "27000", "drop the trigger or the rule on the tables of the "
			   "schema humcli that takes rows away" },
		{ "28", "check the role, its password and pg_hba.conf" },
		{ "42501",
		  "grant humcli_writer to the receiver's role; where it has "
		  "that, check row security and the owner of the tables of the "
		  "schema humcli" },
		{ "3D", "run humcli-webhook doctor" },
		{ "3F", "run humcli-webhook doctor" },
		{ "42", "run humcli-webhook doctor, and check the triggers on "
			"humcli.events" },
		{ "53", "PostgreSQL needs more disk, memory or connections" },
		{ "57014", "a timeout or a person cancelled the statement" },
		{ "58", "check the server's disk and PostgreSQL's log" },
		{ "XX", "check the server's disk and PostgreSQL's log" },
		{ "54000", "check for a listener that holds up the "
			   "notification queue" },
		{ "25", "check whether the server is a standby" },
	};

	if (*sqlstate == '\0')
		return "check PostgreSQL's log, and a pooler in between: it "
		       "needs session or transaction mode";
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (starts_with(sqlstate, table[i].prefix))
			return table[i].advice;
	}
	return "check the triggers and constraints on humcli.events";
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
