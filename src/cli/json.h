/*
 * The lines of JSON that the command line writes. With vectors.c its only file
 * that knows cJSON. All functions return a text that the caller frees.
 */
#ifndef JSON_H
#define JSON_H

#include "base/macros.h"

#include <stdbool.h>
#include <stdint.h>

/* The fields of an event; NULL is null. */
struct event_fields {
	const char *event;
	const char *task_id;
	const char *status;
	const char *previous_status;
	const char *timestamp;
};

/* Returns the body that HumCLI would send, without spaces. */
char *json_event_body(const struct event_fields *s) MUST_CHECK;

/*
 * Returns a notification's payload as one line of valid JSON: unchanged if it
 * is one, else {"raw":"..."}.
 */
char *json_notification(const char *payload) MUST_CHECK;

/* The result of an event that was sent. */
struct sent_event {
	const char *name; /* what was sent, for people */
	const char *task_id; /* NULL if a file was sent */
	const char *timestamp;
	long status; /* 0: no answer */
	int64_t ms;
	const char *body; /* of the answer */
	const char *fault; /* why there is no answer; "" if there is one */
};

char *json_sent_line(const struct sent_event *s) MUST_CHECK;

/* A file of the spool; a field that can't be read is NULL. */
struct spooled {
	const char *name;
	const char *folder;
	const char *received;
	const char *task_id;
	const char *status;
	const char *secret;
	uint64_t size; /* bytes */
	const char *refused; /* how often and why, NULL if never */
};

char *json_spool_line(const struct spooled *s) MUST_CHECK;

/* A secret of the settings; a field that does not apply is NULL. */
struct listed_secret {
	const char *name;
	const char *file;
	bool accepted; /* by the receiver */
	bool in_path; /* a path can carry the name */
	const char *problem;
	const char *mode;
	char *owner, *group;
	const char *changed;
};

char *json_secret_line(const struct listed_secret *s) MUST_CHECK;

/* Returns a secret that was added, with its text. */
char *json_added_secret(const char *name, const char *file, const char *url,
			const char *secret) MUST_CHECK;

/* An event of humcli.events; a field that is NULL there is NULL. */
struct recorded {
	char *id;
	char *event;
	char *task_id;
	char *status;
	char *previous_status;
	char *occurred_at;
	char *received_at;
	char *secret_name;
	char *signature;
	char *payload; /* JSON, as it was signed */
};

/* Returns the event as one line of JSON; the caller frees it. */
char *json_event_line(const struct recorded *r) MUST_CHECK;

/* Returns a finding of the doctor; remedy and page may be NULL. */
char *json_finding_line(const char *severity, const char *check,
			const char *text, const char *remedy,
			const char *page) MUST_CHECK;

/* A finding of the doctor, read again; "" for null. */
struct finding_fields {
	char *severity;
	char *check;
	char *text;
	char *fix;
};

/*
 * Reads a line of json_finding_line(). Returns true, and then the caller frees
 * the fields by json_finding_free(); false if it is none.
 */
bool json_finding_read(const char *line,
		       struct finding_fields *fields) MUST_CHECK;
void json_finding_free(struct finding_fields *fields);

/* Returns true if body is an object with "received": true. */
bool json_is_received(const char *body) MUST_CHECK;

#endif
