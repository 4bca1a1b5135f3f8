/*
 * Parameters of the responder's statements in PostgreSQL's binary form. For
 * the database alone; not safe for several threads.
 */
#ifndef PARAMETERS_H
#define PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "event/delivery.h"
#include "store/text_list.h"

enum { PARAMETERS_MAX = 11 };

/* Zeroes are an empty one. The memory is kept and used again. */
struct parameters {
	struct buf values[PARAMETERS_MAX];
	const unsigned *types; /* Oid, as libpq has it */
	int count;
};

/* A set of parameters as libpq takes it; the memory stays the set's. */
struct parameter_list {
	const unsigned *types;
	int count;
	const char *values[PARAMETERS_MAX];
	int lengths[PARAMETERS_MAX];
	int formats[PARAMETERS_MAX]; /* all binary */
};

void parameters_free(struct parameters *p);

/*
 * Sets the parameters of humcli.record_batch(): the events of a batch, none
 * with a reason.
 */
void parameters_set_events(struct parameters *p, struct delivery *const *events,
			   size_t count, int64_t window_us, bool notify);
/* Sets those of humcli.quarantine_add(): deliveries with a reason. */
void parameters_set_quarantine(struct parameters *p,
			       struct delivery *const *deliveries,
			       size_t count);
/* Sets those of humcli.notify(). */
void parameters_set_texts(struct parameters *p, const struct text_list *events,
			  const struct text_list *gaps);
/* Sets one parameter, an int4. */
void parameters_set_int(struct parameters *p, int value);

void parameters_list(const struct parameters *p, struct parameter_list *list);
/*
 * Lists the one event of parameters_set_events() without arrays, as
 * humcli.record_next() has it.
 */
void parameters_list_event(const struct parameters *p,
			   struct parameter_list *list);

#endif
