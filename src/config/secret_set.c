/*
 * Owns the form of a set of secrets: an array in order of the names. Knows
 * neither files nor threads: secrets.c shares a set only when it is filled.
 */
#include "config/secret_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct secret_set *secret_set_new(void)
{
	struct secret_set *set = xcalloc(1, sizeof(*set));

	set->refcount = 1;
	return set;
}

void secret_set_free(struct secret_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		free(set->list[i].name);
		explicit_bzero(set->list[i].key, set->list[i].length);
		free(set->list[i].key);
		explicit_bzero(set->list[i].hmac, sizeof(struct hmac_key));
		free(set->list[i].hmac);
	}
	free(set->list);
	free(set);
}

void secret_set_add(struct secret_set *set, const char *name, const void *key,
		    size_t length)
{
	struct secret new = { .name = xstrdup(name),
			      .key = xmalloc(length),
			      .length = length,
			      .hmac = xmalloc(sizeof(*new.hmac)) };
	size_t at = set->count;

	memcpy(new.key, key, length);
	hmac_key_init(new.hmac, key, length);
	set->list = array_grow(set->list, set->count, sizeof(new));
	while (at && strcmp(set->list[at - 1].name, name) > 0)
		at--;
	memmove(set->list + at + 1, set->list + at,
		(set->count - at) * sizeof(new));
	set->list[at] = new;
	set->count++;
}

const struct secret *secret_set_find(const struct secret_set *set,
				     const char *name, size_t *count)
{
	size_t low = 0, high = set->count, end;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(set->list[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	end = low;
	while (end < set->count && strcmp(set->list[end].name, name) == 0)
		end++;
	*count = end - low;
	return end > low ? &set->list[low] : NULL;
}

bool secret_name_fits_path(const char *name, size_t length)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	static const char health[] = "health";

	return length > 0 && length <= SECRET_PATH_NAME_MAX && *name != '.' &&
	       strspn(name, allowed) >= length &&
	       !(length == sizeof(health) - 1 &&
		 memcmp(name, health, length) == 0);
}

bool secret_set_equal(const struct secret_set *a, const struct secret_set *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct secret *x = &a->list[i], *y = &b->list[i];

		if (x->length != y->length || strcmp(x->name, y->name) != 0 ||
		    memcmp(x->key, y->key, x->length) != 0)
			return false;
	}
	return true;
}
