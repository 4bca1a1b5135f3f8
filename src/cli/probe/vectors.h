/*
 * The test vectors: deliveries that any receiver of HumCLI's webhooks must
 * accept or refuse. tests/vectors/README.md explains the files. With json.c the
 * command line's only file that knows cJSON.
 */
#ifndef VECTORS_H
#define VECTORS_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;

/* One delivery. Its texts are valid until vectors_free(). */
struct vector {
	const char *group; /* the title of its file */
	const char *name;
	const char *why;
	bool must; /* false: should */
	const char *secret;
	struct buf body;
	const char *signature; /* of the body, made with secret */
	const char *signing; /* how X-Signature is made from the signature */
	const char *sent; /* X-Signature; NULL: absent */
	const struct cJSON *headers; /* vector_headers() */
	const struct cJSON *answers; /* vector_accepts() */
};

struct vectors {
	struct vector *list; /* sorted by file name, then as in the file */
	size_t count;
	struct cJSON **files;
	size_t file_count;
};

/*
 * Loads all *.json of a folder. Returns true if all are valid; false with a
 * line in errors for what is wrong. The caller calls vectors_free() after both.
 */
bool vectors_load(struct vectors *all, const char *folder,
		  struct buf *errors) MUST_CHECK;
void vectors_free(struct vectors *all);

/*
 * Appends the body for one run: the VECTOR_RUN characters of run replace the
 * zeros of its task_id, so that no receiver has seen the task.
 */
enum { VECTOR_RUN = 12 };
void vector_body(const struct vector *v, const char run[VECTOR_RUN + 1],
		 struct buf *body);

/*
 * Appends X-Signature for a body, made with another secret as the vector's was
 * with its own. Returns false if the vector sends no signature.
 */
bool vector_sign(const struct vector *v, const void *key, size_t key_length,
		 const struct buf *body, struct buf *value) MUST_CHECK;

/* Calls each() with every header except X-Signature. */
void vector_headers(const struct vector *v,
		    void (*each)(void *context, const char *name,
				 const char *value),
		    void *context);

/*
 * Returns true if a status is among the expected answers; vector_answers()
 * appends their list for people.
 */
bool vector_accepts(const struct vector *v, long status) MUST_CHECK;
void vector_answers(const struct vector *v, struct buf *text);

/* The result of one check; its texts may be NULL. */
struct check_result {
	const char *group;
	const char *name;
	const char *result;
	const char *expected;
	const char *why;
	const char *fault; /* NULL if nothing is wrong */
	long status; /* 0: no answer */
	int64_t ms;
};

/* Returns the result as one line of JSON; the caller frees it. */
char *check_result_json(const struct check_result *row) MUST_CHECK;

#endif
