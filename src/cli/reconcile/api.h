/*
 * Asks HumCLI's API, only by the two questions that it documents. Waits and
 * tries again after 429, after 5xx and without an answer, until the deadline.
 */
#ifndef API_H
#define API_H

#include "base/buf.h"
#include "base/macros.h"
#include "cli/http.h"
#include "cli/reconcile/answer.h"
#include "config/secret_set.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct api;

/*
 * Prepares questions to the API at base, and sends nothing. cacert is as in
 * struct http_target. deadline: ms, monotonic. Returns NULL if a key must not
 * be sent there, with the reason in reason.
 */
struct api *api_open(const char *base, const char *cacert, int64_t deadline,
		     char *reason, size_t size) MUST_CHECK;
void api_close(struct api *a);
/* Returns how many requests were sent. */
unsigned api_requests(const struct api *a);
/* Returns true if there is neither time nor a request left. */
bool api_is_exhausted(const struct api *a) MUST_CHECK;

enum api_result {
	API_ANSWERED,
	API_REFUSED, /* by the key: 401, 403, 404 or 410 */
	API_FAILED
};

/*
 * Appends the tasks with a status to *told, in which a task may be twice. The
 * pages overlap; if the total changes meanwhile, they are read again. Otherwise
 * than after API_ANSWERED the list is not whole, and the reason is in *reason,
 * which the caller frees.
 */
enum api_result api_list(struct api *a, const struct secret *key,
			 const char *status, struct page *told,
			 char **reason) MUST_CHECK;

/*
 * Asks for one task. After API_ANSWERED and API_REFUSED *answer is HumCLI's
 * answer; the reason of a refusal or failure is in *reason, which the caller
 * frees. The caller frees the answer in each case.
 */
enum api_result api_task(struct api *a, const struct secret *key,
			 const char *task_id, struct http_answer *answer,
			 char **reason) MUST_CHECK;

#endif
