/*
 * What the fuzzing harnesses share: a check that ends the run, and the
 * stand-ins for what the handler and the drainer work with, linked in place
 * of secrets.c and queue.c.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "config/secrets.h"
#include "event/delivery.h"
#include "store/queue.h"

/* libFuzzer keeps the input that made it abort. */
#define CHECK(condition)                                              \
	do {                                                          \
		if (!(condition))                                     \
			check_failed(__FILE__, __LINE__, #condition); \
	} while (0)
_Noreturn void check_failed(const char *file, int line, const char *what);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The one live secret of the stand-in; its name is "main". */
extern const char fuzz_key[];

struct secrets {
	struct secret_set *set;
};
struct secrets *fuzz_secrets(void);
/* The X-Signature of a body. */
void fuzz_sign(const void *body, size_t length, char hex[HMAC_HEX + 1]);

/* Answers with the outcome that stands in it, after these checks: */
struct queue {
	enum outcome outcome;
	unsigned taken; /* deliveries, each of them signed and consistent */
};
/* For exchange_init(): nobody waits. */
struct exchange;
void fuzz_answered(struct exchange *x);

/*
 * The input up to and without the next separator, NUL-terminated in memory
 * of its own, so that one byte too far is a finding; NULL at the end.
 */
struct input {
	const uint8_t *at;
	size_t left;
};
char *input_line(struct input *in, char separator) MUST_CHECK;
uint8_t input_byte(struct input *in);
/* All that is left; its length is in->left before the call. */
char *input_rest(struct input *in) MUST_CHECK;

/* RFC 3339 once more, by regular expression and timegm(). */
bool second_timestamp(const char *text, int64_t *us) MUST_CHECK;
/* Whether timestamp_parse() and that say the same. */
void check_timestamp(const char *text);

/* A log in memory, opened at LEVEL_DEBUG. */
struct memory_log {
	int fd;
};
void memory_log_open(struct memory_log *l);
/* What it holds, to be freed, NUL-terminated; it is empty afterwards. */
char *memory_log_take(struct memory_log *l) MUST_CHECK;

#endif
