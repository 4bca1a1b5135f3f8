/*
 * The test vectors: deliveries as any receiver of HumCLI's webhooks has to
 * take or refuse them, from the files that tests/vectors/README.md explains.
 * With json.c the command line's only file with cJSON.
 */
#ifndef VECTORS_H
#define VECTORS_H

#include "base/buf.h"
#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;

/* One delivery; the texts live as long as the vectors. */
struct vector {
	const char *group; /* its file's title */
	const char *name;
	const char *why;
	bool must; /* else: should */
	const char *secret;
	struct buf body;
	const char *signature; /* of body with secret */
	const char *signing; /* how X-Signature was made of it */
	const char *sent; /* X-Signature; NULL: absent */
	const struct cJSON *headers; /* vector_headers() */
	const struct cJSON *answers; /* vector_accepts() */
};

struct vectors {
	struct vector *list; /* by file name, then in their order */
	size_t count;
	struct cJSON **files;
	size_t file_count;
};

/* All *.json of a folder. False: a line in errors says what is wrong. */
bool vectors_load(struct vectors *all, const char *folder,
		  struct buf *errors) MUST_CHECK;
void vectors_free(struct vectors *all);

/*
 * A copy of the body for a run of its own: VECTOR_RUN digits stand in for
 * the zeros of its task_id, so that no receiver has seen the task.
 */
enum { VECTOR_RUN = 12 };
void vector_body(const struct vector *v, const char run[VECTOR_RUN + 1],
		 struct buf *body);

/*
 * X-Signature for a body, made of another secret as the vector's was of its
 * own. False: the vector sends none.
 */
bool vector_sign(const struct vector *v, const void *key, size_t key_length,
		 const struct buf *body, struct buf *value) MUST_CHECK;

/*
 * Calls each with the name and value of a header other than X-Signature.
 */
void vector_headers(const struct vector *v,
		    void (*each)(void *context, const char *name,
				 const char *value),
		    void *context);

/* Whether a status is among the answers; their list for the terminal. */
bool vector_accepts(const struct vector *v, long status) MUST_CHECK;
void vector_answers(const struct vector *v, struct buf *text);

/* What came of one check; texts may be NULL. */
struct check_result {
	const char *group;
	const char *name;
	const char *result;
	const char *expected;
	const char *why;
	const char *fault; /* NULL where all is well */
	long status; /* 0: no answer */
	int64_t ms;
};

/* It as one line of JSON. */
char *check_result_json(const struct check_result *row) MUST_CHECK;

#endif
