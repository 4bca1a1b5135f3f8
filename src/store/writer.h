/*
 * The recorder: takes deliveries from many threads, records them in
 * batches over one connection from one writer thread, and wakes the
 * listeners after the commit (doc/design.md, "Recording").
 */
#ifndef WRITER_H
#define WRITER_H

#include "config/settings.h"
#include "event/delivery.h"

enum recorder_kind {
	RECORDER_DAEMON, /* FastCGI: notify after the commit */
	RECORDER_ONE_SHOT /* CGI: notify in the recording transaction */
};

struct recorder;

/*
 * Starts the writer thread; it connects when there is something to do.
 * breaker: once a delivery could not be recorded in time, refuse those
 * after it at once, until a recording commits again. For callers that have
 * a spool to go to.
 */
struct recorder *recorder_start(const struct settings *s,
				enum recorder_kind mode,
				bool breaker) MUST_CHECK;

/*
 * Submitting a delivery, and looking after those that are overdue: as
 * queue_submit() and its neighbours have it. Safe from any thread.
 */
bool recorder_submit(struct recorder *r, struct delivery *d, int64_t deadline,
		     outcome_fn answer, void *context) MUST_CHECK;
void *recorder_overdue(struct recorder *r, int64_t *next) MUST_CHECK;
int recorder_overdue_fd(const struct recorder *r) MUST_CHECK;

/*
 * Records deliveries out of the spool, behind live ones, and waits until
 * then (monotonic_ms()), after recorder_set_stop_deadline() no longer. Takes the deliveries
 * over. False where the database did not answer to all: the next ones need
 * not be tried now.
 */
bool recorder_submit_and_wait(struct recorder *r, struct delivery **deliveries,
			      size_t count, int64_t until,
			      enum outcome *outcomes) MUST_CHECK;

/*
 * Whether the database answers: by the last round trip if that is at most
 * 5 s old, else by one of its own, for which it waits 1 s at most.
 */
bool recorder_healthy(struct recorder *r) MUST_CHECK;

/* From now on every wait ends at the given monotonic_ms() at the latest. */
void recorder_set_stop_deadline(struct recorder *r, int64_t deadline);

/*
 * Sends what is owed to listeners, until deadline at the latest, and ends
 * the writer. False: it is stuck, and the process can only be left by
 * _exit().
 */
bool recorder_stop(struct recorder *r, int64_t deadline) MUST_CHECK;

#endif
