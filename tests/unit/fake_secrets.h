/*
 * Secrets for a test, linked in place of config/secrets.c: one set that the
 * test fills and replaces.
 */
#ifndef FAKE_SECRETS_H
#define FAKE_SECRETS_H

#include "config/secrets.h"

/* The test owns the set and frees it by secret_set_free(). */
struct secrets {
	struct secret_set *set;
	size_t held; /* references that were not released */
	bool check_is_due;
};

#endif
