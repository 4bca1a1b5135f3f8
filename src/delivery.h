/*
 * A delivery: one verified POST on its way into the database. The recorder
 * takes it over, since it can outlive the request that brought it.
 */
#ifndef DELIVERY_H
#define DELIVERY_H

#include "event.h"
#include "hmac.h"

struct delivery {
	struct event event; /* empty where reason is set */
	char *reason; /* why it goes to humcli.quarantine; NULL: an event */
	char *secret_name;
	char signature[HMAC_HEX + 1];
	char *payload; /* the exact signed bytes, NUL-terminated beyond them */
	size_t length;
	int64_t received_at; /* us since 1970 */
};

struct delivery *delivery_new(void) MUST_CHECK;
void delivery_free(struct delivery *d);

#endif
