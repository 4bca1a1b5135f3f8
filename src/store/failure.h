/*
 * The choice of what happens to a batch whose transaction failed, and what the
 * failure says about the database. Pure functions.
 */
#ifndef FAILURE_H
#define FAILURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "store/breaker.h"

enum failure_action {
	FAILURE_RETRY, /* the same batch again, after a pause */
	FAILURE_SPLIT, /* its halves, one after the other */
	FAILURE_QUARANTINE, /* the one event is at fault */
	FAILURE_REFUSE /* the server refuses the one event: to the spool */
};

/*
 * Chooses by the SQLSTATE ("" if the connection broke), by the number of
 * events in the transaction, by how often one of them has failed, this time
 * included, and by whether PostgreSQL can't read the data of the one event.
 */
enum failure_action failure_choose(const char *sqlstate, size_t count,
				   unsigned failures,
				   bool unreadable) MUST_CHECK;

/*
 * Returns what a failed request says about the database, whatever it says about
 * the events.
 */
enum round_trip failure_round_trip(const char *sqlstate) MUST_CHECK;

#endif
