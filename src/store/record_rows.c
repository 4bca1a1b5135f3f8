/*
 * Owns the form of the rows that the recording functions return, in binary.
 * Must not know which statement was sent. It is the writer's, as all of
 * database.c.
 */
#include "store/record_rows.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/macros.h"

void record_rows_free(struct record_rows *rows)
{
	free(rows->list);
	buf_free(&rows->texts);
}

static bool parse_outcome(const char *word, enum row_outcome *outcome)
{
	static const char *const words[] = {
		[ROW_RECORDED] = "recorded", [ROW_DUPLICATE] = "duplicate",
		[ROW_REPEAT] = "repeat",     [ROW_BUSY] = "busy",
		[ROW_PROMOTED] = "promoted", [ROW_GAP] = "gap",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*outcome = (enum row_outcome)i;
			return true;
		}
	}
	return false;
}

static bool read_row(const PGresult *result, int i, const size_t *indexes,
		     size_t count, struct database_row *row)
{
	uint32_t place;

	if (PQgetlength(result, i, 0) != sizeof(place) ||
	    !parse_outcome(PQgetvalue(result, i, 1), &row->outcome))
		return false;
	memcpy(&place, PQgetvalue(result, i, 0), sizeof(place));
	place = ntohl(place);
	if (place < 1 || place > count)
		return false;
	row->index = indexes[place - 1];
	return true;
}

static void reserve(struct record_rows *rows, size_t count)
{
	rows->count = 0;
	rows->texts.length = 0;
	if (rows->capacity >= count)
		return;
	rows->list = xrealloc(rows->list, count * sizeof(*rows->list));
	rows->capacity = count;
}

/* Sets the pointers, once the memory of the texts does not move any more. */
static void set_notifications(struct record_rows *rows)
{
	const char *text = rows->texts.data;

	for (size_t i = 0; i < rows->count; i++) {
		rows->list[i].notification = text;
		text += strlen(text) + 1;
	}
}

bool record_rows_read(struct record_rows *rows, const PGresult *result,
		      const size_t *indexes, size_t count)
{
	int n = PQntuples(result);

	reserve(rows, (size_t)n);
	if (PQnfields(result) != 3)
		return false;
	for (int i = 0; i < n; i++) {
		if (!read_row(result, i, indexes, count, &rows->list[i]))
			return false;
		/* NULL is "" here. */
		buf_add(&rows->texts, PQgetvalue(result, i, 2),
			(size_t)PQgetlength(result, i, 2) + 1);
		rows->count++;
	}
	set_notifications(rows);
	return true;
}

bool record_rows_read_next(struct record_rows *rows, const PGresult *result,
			   size_t index)
{
	reserve(rows, 1);
	if (PQntuples(result) != 1 || PQnfields(result) != 1)
		return false;
	rows->list[0] = (struct database_row){ .index = index,
					       .outcome = ROW_RECORDED,
					       .notification = "" };
	rows->count = !PQgetisnull(result, 0, 0);
	return true;
}
