/*
 * The recorder: takes deliveries from many threads, records them in
 * batches over one connection from one writer thread, and wakes the
 * listeners after the commit (doc/design.md, "Recording").
 */
#ifndef RECORDER_H
#define RECORDER_H

#include "delivery.h"
#include "settings.h"

enum outcome {
	OUTCOME_RECORDED,
	OUTCOME_DUPLICATE, /* a repeat is answered as one */
	OUTCOME_QUARANTINED, /* kept in humcli.quarantine, as asked */
	OUTCOME_MALFORMED, /* quarantined: PostgreSQL refused the JSON */
	OUTCOME_INVALID, /* quarantined: PostgreSQL refused a field */
	OUTCOME_UNAVAILABLE /* no database in time */
};

enum recorder_mode {
	RECORDER_RESIDENT, /* FastCGI: notify after the commit */
	RECORDER_ONCE /* CGI: notify in the recording transaction */
};

struct recorder;

/* Starts the writer thread; it connects when there is something to do. */
struct recorder *recorder_start(const struct settings *s,
				enum recorder_mode mode) MUST_CHECK;

/*
 * Records a delivery and waits for the commit, until deadline (clock_ms())
 * at the latest. Takes d over. Safe from any thread.
 */
enum outcome recorder_submit(struct recorder *r, struct delivery *d,
			     int64_t deadline) MUST_CHECK;

/*
 * Whether the database answers: by the last round trip if that is at most
 * 5 s old, else by one of its own, for which it waits 1 s at most.
 */
bool recorder_healthy(struct recorder *r) MUST_CHECK;

/* From now on every wait ends at the given clock_ms() at the latest. */
void recorder_hurry(struct recorder *r, int64_t deadline);

/*
 * Sends what is owed to listeners, until deadline at the latest, and ends
 * the writer. False: it is stuck, and the process can only be left by
 * _exit().
 */
bool recorder_stop(struct recorder *r, int64_t deadline) MUST_CHECK;

#endif
