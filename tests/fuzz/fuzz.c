#include "fuzz.h"

#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "event/timestamp.h"

const char fuzz_key[] = "whsec_fuzz";

_Noreturn void check_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
	abort();
}

/* The stand-ins. */

struct secrets *fuzz_secrets(void)
{
	static struct secrets secrets = { NULL };

	if (!secrets.set) {
		secrets.set = secret_set_new();
		secret_set_add(secrets.set, "other", "another", 7);
		secret_set_add(secrets.set, "main", fuzz_key,
			       sizeof(fuzz_key) - 1);
	}
	return &secrets;
}

bool secrets_check_is_due(struct secrets *s)
{
	(void)s;
	return false;
}

const struct secret_set *secrets_acquire(struct secrets *s)
{
	s->set->refcount++;
	return s->set;
}

void secrets_release(struct secrets *s, const struct secret_set *set)
{
	CHECK(set == s->set && s->set->refcount > 1);
	s->set->refcount--;
}

void fuzz_sign(const void *body, size_t length, char hex[HMAC_HEX + 1])
{
	unsigned char digest[HMAC_BYTES];

	hmac_sha256(fuzz_key, sizeof(fuzz_key) - 1, body, length, digest);
	hmac_to_hex(digest, hex);
}

/* Checks that a delivery is signed, and is an event or has a reason. */
static void check_delivery(const struct delivery *d)
{
	char hex[HMAC_HEX + 1];

	fuzz_sign(d->payload, d->length, hex);
	CHECK(strcmp(d->signature, hex) == 0);
	CHECK(d->payload[d->length] == '\0');
	CHECK(d->secret_name);
	/* PostgreSQL would refuse the whole batch otherwise. */
	CHECK(utf8_valid(d->secret_name, strlen(d->secret_name)));
	CHECK(d->received_at >= 0 &&
	      d->received_at < INT64_C(253402300800000000));
	if (d->reason)
		CHECK(*d->reason && !d->event.event && !d->event.task_id);
	else
		CHECK(*d->event.event && *d->event.task_id && *d->event.status);
}

static enum outcome take(struct queue *q, struct delivery *d)
{
	check_delivery(d);
	delivery_unref(d);
	q->taken++;
	return q->outcome;
}

bool queue_submit(struct queue *q, struct delivery *d, int64_t deadline,
		  outcome_fn answer, void *context)
{
	(void)deadline;
	if (take(q, d) == OUTCOME_UNAVAILABLE)
		return false;
	answer(context, q->outcome);
	return true;
}

bool queue_submit_and_wait(struct queue *q, struct delivery **deliveries,
			   size_t count, int64_t until, enum outcome *outcomes)
{
	(void)until;
	for (size_t i = 0; i < count; i++)
		outcomes[i] = take(q, deliveries[i]);
	return q->outcome != OUTCOME_UNAVAILABLE;
}

void fuzz_answered(struct exchange *x)
{
	(void)x;
}

void queue_set_stop_deadline(struct queue *q, int64_t deadline)
{
	(void)q;
	(void)deadline;
}

bool queue_healthy(struct queue *q)
{
	return q->outcome != OUTCOME_UNAVAILABLE;
}

/* The parts of the input. */

char *input_line(struct input *in, char separator)
{
	const uint8_t *end;
	size_t length;
	char *line;

	if (!in->left)
		return NULL;
	end = memchr(in->at, separator, in->left);
	length = end ? (size_t)(end - in->at) : in->left;
	line = xstrndup((const char *)in->at, length);
	in->at += length + (end != NULL);
	in->left -= length + (end != NULL);
	return line;
}

uint8_t input_byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

char *input_rest(struct input *in)
{
	char *rest = xstrndup((const char *)in->at, in->left);

	in->at += in->left;
	in->left = 0;
	return rest;
}

/* A second opinion on timestamps. */

/* Returns the number in a group, or 0 if the group did not match. */
static int number_at(const char *text, regmatch_t at)
{
	char *digits;
	long value;

	if (at.rm_so < 0)
		return 0;
	digits = xstrndup(text + at.rm_so, (size_t)(at.rm_eo - at.rm_so));
	value = strtol(digits, NULL, 10);
	free(digits);
	return (int)value;
}

enum { YEAR = 1, MONTH, DAY, HOUR, MINUTE, SECOND = 7, FRACTION = 9 };
enum { SIGN = 13, ZONE_HOUR, ZONE_MINUTE = 16, GROUPS };

static bool split_timestamp(const char *text, regmatch_t at[GROUPS])
{
	static regex_t form;
	static bool compiled;

	if (!compiled &&
	    regcomp(&form,
		    "^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})"
		    "(:([0-9]{2})([.,]([0-9]+))?)? ?"
		    "(([Zz]|UTC|GMT)(\\[[^]]+\\])?|"
		    "([+-])([0-9]{2})(:?([0-9]{2}))?(\\[[^]]+\\]| [A-Z]+)?)$",
		    REG_EXTENDED) != 0)
		abort();
	compiled = true;
	return regexec(&form, text, GROUPS, at, 0) == 0;
}

/* Checks the day against the calendar, because timegm() accepts any. */
static bool seconds_of(struct tm *t, int64_t *seconds)
{
	struct tm day = { .tm_year = t->tm_year,
			  .tm_mon = t->tm_mon,
			  .tm_mday = t->tm_mday };
	int month = t->tm_mon, number = t->tm_mday;

	if (t->tm_year == -1900 || t->tm_hour > 24 || t->tm_min > 59 ||
	    t->tm_sec > 60)
		return false;
	(void)timegm(&day);
	if (day.tm_mon != month || day.tm_mday != number)
		return false;
	*seconds = timegm(t);
	return true;
}

bool second_timestamp(const char *text, int64_t *us)
{
	regmatch_t at[GROUPS];
	struct tm t = { 0 };
	int hours, minutes, sign;
	int64_t seconds;
	char micros[7] = "000000";

	if (!split_timestamp(text, at))
		return false;
	t.tm_year = number_at(text, at[YEAR]) - 1900;
	t.tm_mon = number_at(text, at[MONTH]) - 1;
	t.tm_mday = number_at(text, at[DAY]);
	t.tm_hour = number_at(text, at[HOUR]);
	t.tm_min = number_at(text, at[MINUTE]);
	t.tm_sec = number_at(text, at[SECOND]);
	if (at[FRACTION].rm_so >= 0)
		for (int i = 0;
		     i < 6 && at[FRACTION].rm_so + i < at[FRACTION].rm_eo; i++)
			micros[i] = text[at[FRACTION].rm_so + i];
	hours = number_at(text, at[ZONE_HOUR]);
	minutes = number_at(text, at[ZONE_MINUTE]);
	sign = at[SIGN].rm_so >= 0 && text[at[SIGN].rm_so] == '-' ? -1 : 1;
	if (hours > 23 || minutes > 59 ||
	    (t.tm_hour == 24 &&
	     (t.tm_min || t.tm_sec || strcmp(micros, "000000") != 0)) ||
	    !seconds_of(&t, &seconds))
		return false;
	seconds -= sign * (hours * 60 + minutes) * 60;
	*us = seconds * 1000000 + strtol(micros, NULL, 10);
	return true;
}

void check_timestamp(const char *text)
{
	int64_t ours = 0, theirs = 0;
	bool valid = timestamp_parse(text, &ours);

	CHECK(valid == second_timestamp(text, &theirs));
	CHECK(!valid || ours == theirs);
}

/* The log. */

void memory_log_open(struct memory_log *l)
{
	char path[64];

	l->fd = memfd_create("log", MFD_CLOEXEC);
	CHECK(l->fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", l->fd);
	CHECK(log_open(path, LEVEL_DEBUG));
}

char *memory_log_take(struct memory_log *l)
{
	struct buf text = { 0 };

	CHECK(lseek(l->fd, 0, SEEK_SET) == 0);
	buf_add(&text, "", 0);
	CHECK(read_all(l->fd, 1 << 20, &text));
	CHECK(ftruncate(l->fd, 0) == 0);
	return text.data;
}
