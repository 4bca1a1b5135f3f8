/*
 * Shared by the fuzzing harnesses: a check that ends the run, and stand-ins
 * for the secrets and the queue that handler and drainer use. They are linked
 * in place of secrets.c and queue.c.
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

/* The one active secret of the stand-in; its name is "main". */
extern const char fuzz_key[];

struct secrets {
	struct secret_set *set;
};
struct secrets *fuzz_secrets(void);
/* Computes the X-Signature of a body. */
void fuzz_sign(const void *body, size_t length, char hex[HMAC_HEX + 1]);

/* A queue that checks each delivery and answers with its outcome. */
struct queue {
	enum outcome outcome;
	unsigned taken; /* how many deliveries passed the checks */
};
/* Does nothing, because no request waits. For exchange_init(). */
struct exchange;
void fuzz_answered(struct exchange *x);

/*
 * Returns the input up to the next separator, or NULL at the end. The text has
 * memory of its own, so that reading a byte too far is a finding. The caller
 * frees it.
 */
struct input {
	const uint8_t *at;
	size_t left;
};
char *input_line(struct input *in, char separator) MUST_CHECK;
uint8_t input_byte(struct input *in);
/* Returns the rest; its length is in->left before the call. */
char *input_rest(struct input *in) MUST_CHECK;

/* Reads a time as timestamp_parse() should, by a regular expression. */
bool second_timestamp(const char *text, int64_t *us) MUST_CHECK;
/* Checks that timestamp_parse() and second_timestamp() agree. */
void check_timestamp(const char *text);

/* A log in memory, opened at LEVEL_DEBUG. */
struct memory_log {
	int fd;
};
void memory_log_open(struct memory_log *l);
/* Empties the log and returns its text, which the caller frees. */
char *memory_log_take(struct memory_log *l) MUST_CHECK;

#endif
