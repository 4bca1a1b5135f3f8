/*
 * The meaning of an error of PostgreSQL, by its SQLSTATE: five characters, or
 * "" if the connection broke and the server gave none. Pure functions.
 */
#ifndef SQLSTATE_H
#define SQLSTATE_H

#include <stdbool.h>

#include "base/macros.h"

/*
 * Returns true if the data that was sent can cause the error: class 22, and
 * 54001 (a document nested too deeply). All other errors are the server's.
 */
bool sqlstate_is_data_error(const char *sqlstate) MUST_CHECK;

/*
 * Returns true if the error usually passes by itself: a broken connection, a
 * server that stops or has no room, somebody else's lock.
 */
bool sqlstate_is_transient(const char *sqlstate) MUST_CHECK;

/* Returns what may help against an error that is not the data's. */
const char *sqlstate_advice(const char *sqlstate);

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
