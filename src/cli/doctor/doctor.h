/*
 * What humcli-webhook doctor looks at, a file each; init asks the database
 * the same.
 */
#ifndef DOCTOR_H
#define DOCTOR_H

#include "cli/doctor/findings.h"
#include "config/settings.h"

/* Where files lie, the secrets, the spool, and the log's last lines. */
void doctor_files(struct findings *f, const struct settings *s);
void doctor_spool(struct findings *f, const struct settings *s);
void doctor_log(struct findings *f, const struct settings *s);

/*
 * The way to the database, the schema, what the role may do, and whether a
 * NOTIFY is heard. Then what the events tell, by way of reader (a
 * conninfo), or, where that is NULL, by the same role if it may read.
 */
void doctor_database(struct findings *f, const char *conninfo,
		     const char *reader);

/* The limits of a web server that are below ours; NULL: the usual places. */
void doctor_web(struct findings *f, const struct settings *s,
		const char *pattern);

struct secret;
struct http_target;

/* A receiver's answers, with HumCLI's eyes. */
void doctor_http(struct findings *f, const struct http_target *target,
		 const struct secret *secret, const char *plain);

#endif
