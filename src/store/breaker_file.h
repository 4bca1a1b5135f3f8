/*
 * The last round trip to the database, kept in a file of the spool. A plain
 * CGI process lives for one request; it takes over from here what the process
 * before it found out.
 */
#ifndef BREAKER_FILE_H
#define BREAKER_FILE_H

#include "store/breaker.h"

/*
 * Reads the file in this directory: the result, and its age in ms. Returns
 * false if there is no file, or it can't be read.
 */
bool breaker_file_load(const char *spool, int64_t *age,
		       enum round_trip *result) MUST_CHECK;
/* Writes the file; a failure only goes to the log, at the level debug. */
void breaker_file_save(const char *spool, enum round_trip result);

#endif
