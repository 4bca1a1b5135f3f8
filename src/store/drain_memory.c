/*
 * Owns the names of the files that no active secret fits, as a sorted array.
 * Must not know the spool. The drainer's thread calls these functions.
 */
#include "store/drain_memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static int compare_names(const void *a, const void *b)
{
	const struct foreign_file *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static void forget(struct drain_memory *m)
{
	free(m->foreign);
	m->foreign = NULL;
	m->sorted = m->count = 0;
}

bool drain_memory_renew(struct drain_memory *m, struct secrets *secrets)
{
	const struct secret_set *set;

	if (!m)
		return true;
	set = secrets_acquire(secrets);
	if (set == m->set) {
		secrets_release(secrets, set);
		return m->failed_left;
	}
	if (m->set)
		secrets_release(secrets, m->set);
	m->set = set;
	forget(m);
	m->failed_tried = 0;
	m->failed_left = true;
	return true;
}

void drain_memory_free(struct drain_memory *m, struct secrets *secrets)
{
	if (m->set)
		secrets_release(secrets, m->set);
	m->set = NULL;
	forget(m);
}

bool drain_memory_knows(const struct drain_memory *m, const char *name)
{
	struct foreign_file key;

	if (!m || !m->sorted || strlen(name) != HMAC_HEX)
		return false;
	memcpy(key.name, name, sizeof(key.name));
	return bsearch(&key, m->foreign, m->sorted, sizeof(key),
		       compare_names) != NULL;
}

void drain_memory_add(struct drain_memory *m, const char *name)
{
	if (!m)
		return;
	m->foreign = array_grow(m->foreign, m->count, sizeof(*m->foreign));
	memcpy(m->foreign[m->count++].name, name, HMAC_HEX + 1);
}

size_t drain_memory_settle(struct drain_memory *m)
{
	size_t added = m ? m->count - m->sorted : 0;

	if (!added)
		return 0;
	qsort(m->foreign, m->count, sizeof(*m->foreign), compare_names);
	m->sorted = m->count;
	return added;
}
