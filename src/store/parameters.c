/*
 * Owns the binary form of values and arrays (array_send, timestamptz_send and
 * so on), and which column of a delivery goes where. Must not know the
 * text of a statement, a transaction or a result.
 */
#include "store/parameters.h"

#include <arpa/inet.h>
#include <endian.h>
#include <string.h>

/* Type identifiers of PostgreSQL (pg_type.dat); they never change. */
enum {
	OID_BOOL = 16,
	OID_BYTEA = 17,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_JSON = 114,
	OID_TIMESTAMPTZ = 1184,
	OID_INTERVAL = 1186,
	OID_JSON_ARRAY = 199,
	OID_BYTEA_ARRAY = 1001,
	OID_TEXT_ARRAY = 1009,
	OID_TIMESTAMPTZ_ARRAY = 1185
};

/* 2000-01-01, where PostgreSQL's binary timestamps start, in Unix us. */
static const int64_t postgres_epoch = INT64_C(946684800000000);

/* The bytes before the first element of an array, and before its data. */
enum { ARRAY_HEAD = 20, ELEMENT_HEAD = 4 };

/* The columns of an event, in the order of humcli.record_batch(). */
enum { EVENT_COLUMNS = 9, WINDOW = EVENT_COLUMNS, NOTIFY };
static const unsigned event_types[EVENT_COLUMNS] = {
	OID_TEXT,	 OID_TEXT, OID_TEXT, OID_TEXT, OID_TIMESTAMPTZ,
	OID_TIMESTAMPTZ, OID_TEXT, OID_TEXT, OID_JSON
};

void parameters_free(struct parameters *p)
{
	for (size_t i = 0; i < PARAMETERS_MAX; i++)
		buf_free(&p->values[i]);
}

static void put32(struct buf *b, int32_t value)
{
	uint32_t wire = htonl((uint32_t)value);

	buf_add(b, &wire, sizeof(wire));
}

static void put64(struct buf *b, int64_t value)
{
	uint64_t wire = htobe64((uint64_t)value);

	buf_add(b, &wire, sizeof(wire));
}

static void array_start(struct buf *b, size_t count, unsigned element)
{
	b->length = 0;
	put32(b, 1); /* dimensions */
	put32(b, 1); /* may hold NULLs */
	put32(b, (int32_t)element);
	put32(b, (int32_t)count);
	put32(b, 1); /* lower bound */
}

static void array_bytes(struct buf *b, const char *data, size_t length)
{
	put32(b, (int32_t)length);
	buf_add(b, data, length);
}

/* Adds an element of an array; NULL becomes SQL's NULL. */
static void array_text(struct buf *b, const char *text)
{
	if (text)
		array_bytes(b, text, strlen(text));
	else
		put32(b, -1);
}

static void array_time(struct buf *b, int64_t unix_us)
{
	put32(b, 8);
	put64(b, unix_us - postgres_epoch);
}

void parameters_set_events(struct parameters *p, struct delivery *const *events,
			   size_t count, int64_t window_us, bool notify)
{
	static const unsigned types[] = { OID_TEXT_ARRAY,
					  OID_TEXT_ARRAY,
					  OID_TEXT_ARRAY,
					  OID_TEXT_ARRAY,
					  OID_TIMESTAMPTZ_ARRAY,
					  OID_TIMESTAMPTZ_ARRAY,
					  OID_TEXT_ARRAY,
					  OID_TEXT_ARRAY,
					  OID_JSON_ARRAY,
					  OID_INTERVAL,
					  OID_BOOL };
	struct buf *v = p->values;

	p->types = types;
	p->count = ARRAY_SIZE(types);
	for (size_t i = 0; i < EVENT_COLUMNS; i++)
		array_start(&v[i], count, event_types[i]);
	for (size_t i = 0; i < count; i++) {
		const struct delivery *d = events[i];

		array_text(&v[0], d->event.event);
		array_text(&v[1], d->event.task_id);
		array_text(&v[2], d->event.status);
		array_text(&v[3], d->event.previous_status);
		array_time(&v[4], d->event.occurred_at);
		array_time(&v[5], d->received_at);
		array_text(&v[6], d->secret_name);
		array_text(&v[7], d->signature);
		array_bytes(&v[8], d->payload, d->length);
	}
	v[WINDOW].length = v[NOTIFY].length = 0;
	put64(&v[WINDOW], window_us);
	put32(&v[WINDOW], 0); /* days */
	put32(&v[WINDOW], 0); /* months */
	buf_add(&v[NOTIFY], notify ? "\1" : "\0", 1);
}

void parameters_set_quarantine(struct parameters *p,
			       struct delivery *const *deliveries, size_t count)
{
	static const unsigned types[] = { OID_TIMESTAMPTZ_ARRAY, OID_TEXT_ARRAY,
					  OID_TEXT_ARRAY, OID_TEXT_ARRAY,
					  OID_BYTEA_ARRAY };
	static const unsigned elements[] = { OID_TIMESTAMPTZ, OID_TEXT,
					     OID_TEXT, OID_TEXT, OID_BYTEA };
	struct buf *v = p->values;

	p->types = types;
	p->count = ARRAY_SIZE(types);
	for (size_t i = 0; i < ARRAY_SIZE(elements); i++)
		array_start(&v[i], count, elements[i]);
	for (size_t i = 0; i < count; i++) {
		const struct delivery *d = deliveries[i];

		array_time(&v[0], d->received_at);
		array_text(&v[1], d->reason);
		array_text(&v[2], d->secret_name);
		array_text(&v[3], d->signature);
		array_bytes(&v[4], d->payload, d->length);
	}
}

void text_list_add(struct text_list *list, const char *text)
{
	if (!list->count++)
		array_start(&list->array, 0, OID_TEXT);
	array_text(&list->array, text);
}

void text_list_clear(struct text_list *list)
{
	list->count = 0;
	list->array.length = 0;
}

void text_list_free(struct text_list *list)
{
	buf_free(&list->array);
}

/* Makes an array of a list, which lacks only the number of elements. */
static void set_texts(struct buf *b, const struct text_list *list)
{
	array_start(b, list->count, OID_TEXT);
	if (list->count)
		buf_add(b, list->array.data + ARRAY_HEAD,
			list->array.length - ARRAY_HEAD);
}

void parameters_set_texts(struct parameters *p, const struct text_list *events,
			  const struct text_list *gaps)
{
	static const unsigned types[] = { OID_TEXT_ARRAY, OID_TEXT_ARRAY };

	p->types = types;
	p->count = ARRAY_SIZE(types);
	set_texts(&p->values[0], events);
	set_texts(&p->values[1], gaps);
}

void parameters_set_int(struct parameters *p, int value)
{
	static const unsigned types[] = { OID_INT4 };

	p->types = types;
	p->count = ARRAY_SIZE(types);
	p->values[0].length = 0;
	put32(&p->values[0], value);
}

void parameters_list(const struct parameters *p, struct parameter_list *list)
{
	list->types = p->types;
	list->count = p->count;
	for (int i = 0; i < p->count; i++) {
		list->values[i] = p->values[i].data;
		list->lengths[i] = (int)p->values[i].length;
		list->formats[i] = 1;
	}
}

/* Returns the first element of an array; NULL if that is NULL. */
static const char *array_first(const struct buf *array, int *length)
{
	uint32_t wire;

	memcpy(&wire, array->data + ARRAY_HEAD, sizeof(wire));
	*length = (int)ntohl(wire);
	return *length < 0 ? NULL : array->data + ARRAY_HEAD + ELEMENT_HEAD;
}

void parameters_list_event(const struct parameters *p,
			   struct parameter_list *list)
{
	list->types = event_types;
	list->count = EVENT_COLUMNS;
	for (int i = 0; i < EVENT_COLUMNS; i++) {
		list->values[i] = array_first(&p->values[i], &list->lengths[i]);
		list->formats[i] = 1;
	}
}
