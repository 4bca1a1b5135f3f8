/*
 * What an error of PostgreSQL says, by its SQLSTATE: five characters, or ""
 * where the connection broke and the server gave none. Pure functions.
 */
#ifndef SQLSTATE_H
#define SQLSTATE_H

#include <stdbool.h>

#include "base/macros.h"

/* Returns true if the error says nothing against the data that was sent. */
bool sqlstate_blames_server(const char *sqlstate) MUST_CHECK;

/* Returns true if the error stays until somebody changes the set-up. */
bool sqlstate_is_setup_error(const char *sqlstate) MUST_CHECK;

/*
 * Returns true if the session can't go on: another connection, or another
 * host, may do better.
 */
bool sqlstate_needs_new_connection(const char *sqlstate) MUST_CHECK;

/*
 * Returns the exit code (sysexits.h) of a command that failed so; EX_OK if
 * the same question may succeed later.
 */
int sqlstate_exit_code(const char *sqlstate) MUST_CHECK;

#endif
