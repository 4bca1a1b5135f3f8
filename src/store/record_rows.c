/*
 * Owns the form of the rows that the recording functions return, in binary. It
 * must not know how they were asked for.
 */
#include "store/record_rows.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/macros.h"

void record_rows_free(struct record_rows *rows)
{
	free(rows->list);
}

static bool parse_outcome(const char *word, enum row_outcome *outcome)
{
	static const char *const words[] = {
		[ROW_RECORDED] = "recorded", [ROW_DUPLICATE] = "duplicate",
		[ROW_REPEAT] = "repeat",     [ROW_BUSY] = "busy",
		[ROW_PROMOTED] = "promoted",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*outcome = (enum row_outcome)i;
			return true;
		}
	}
	return false;
}

/* Reads an int8; NULL is 0. */
static bool read_id(const PGresult *result, int i, int column, int64_t *id)
{
	uint64_t wire = 0;

	if (!PQgetisnull(result, i, column)) {
		if (PQgetlength(result, i, column) != sizeof(wire))
			return false;
		memcpy(&wire, PQgetvalue(result, i, column), sizeof(wire));
	}
	*id = (int64_t)be64toh(wire);
	return true;
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
	return read_id(result, i, 2, &row->id);
}

static void reserve(struct record_rows *rows, size_t count)
{
	rows->count = 0;
	if (rows->capacity >= count)
		return;
	rows->list = xrealloc(rows->list, count * sizeof(*rows->list));
	rows->capacity = count;
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
		rows->count++;
	}
	return true;
}

bool record_rows_read_next(struct record_rows *rows, const PGresult *result,
			   size_t index)
{
	struct database_row row = { .index = index, .outcome = ROW_RECORDED };

	reserve(rows, 1);
	if (PQntuples(result) != 1 || PQnfields(result) != 1 ||
	    !read_id(result, 0, 0, &row.id))
		return false;
	rows->list[0] = row;
	rows->count = !PQgetisnull(result, 0, 0);
	return true;
}
