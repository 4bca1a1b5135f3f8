/*
 * A list of texts in the form of PostgreSQL's binary text[], so that it needs
 * no allocation for each and is sent as it is.
 */
#ifndef TEXT_LIST_H
#define TEXT_LIST_H

#include "base/buf.h"

/* Zeroes are an empty one. */
struct text_list {
	struct buf array; /* its head is written by parameters_set_texts() */
	size_t count;
};

void text_list_add(struct text_list *list, const char *text);
/* Keeps the memory. */
void text_list_clear(struct text_list *list);
void text_list_free(struct text_list *list);

#endif
