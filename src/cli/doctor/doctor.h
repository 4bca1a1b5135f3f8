/*
 * The checks of humcli-webhook doctor, a file each. init makes those of the
 * database, too.
 */
#ifndef DOCTOR_H
#define DOCTOR_H

#include "base/buf.h"
#include "cli/doctor/findings.h"
#include "config/settings.h"

/*
 * Reports error lines, a failure each. usual is the fix for a line that is
 * not a lack of permission.
 */
void doctor_error_lines(struct findings *f, const char *topic,
			const struct buf *errors, const char *usual);
/* Returns the commands that let this user read path; the caller frees them. */
char *doctor_read_remedy(const char *path) MUST_CHECK;

/* Checks where files are and who can read them, and the secrets. */
void doctor_files(struct findings *f, const struct settings *s);
/*
 * Checks who can read the API keys: the receiver's user, NULL if it is unknown,
 * and those of web servers must not. Call before root becomes another user.
 */
void doctor_keys(struct findings *f, const struct settings *s,
		 const char *user);
/* Checks that the spool works, and what waits in it. */
void doctor_spool(struct findings *f, const struct settings *s);
/* Checks the last lines of the log. */
void doctor_log(struct findings *f, const struct settings *s);

/*
 * Checks the connection to the database as the receiver makes it, the schema,
 * what the role may do, and whether a NOTIFY arrives. Then checks what the
 * events tell: by the conninfo reader; without one by the same role, or, if
 * that may not read, leaves f->shared->reader to the caller.
 */
void doctor_database(struct findings *f, const char *conninfo,
		     const char *reader);
/*
 * Checks what the events tell, by that conninfo. optional: if it does not
 * connect, the checks are skipped.
 */
void doctor_recorded(struct findings *f, const char *conninfo, bool optional);

/*
 * Checks the web server's configuration: limits below ours, and whether ours
 * is enabled. NULL: the usual places.
 */
void doctor_web(struct findings *f, const struct settings *s,
		const char *pattern);
/* Checks that the receiver answers at its socket. */
void doctor_socket(struct findings *f);

struct secret;
struct http_target;

/* Checks a receiver's answers from HumCLI's side. */
void doctor_http(struct findings *f, const struct http_target *target,
		 const struct secret *secret, const char *plain);

#endif
