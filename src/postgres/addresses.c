/*
 * Owns the order of the addresses, and the look-up of names. Connects to
 * nothing.
 */
#include "postgres/addresses.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "postgres/query.h"

void address_free(struct address *a)
{
	free(a->host);
	free(a->hostaddr);
	free(a->port);
	*a = (struct address){ 0 };
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool address_equal(const struct address *a, const struct address *b)
{
	return same_text(a->host, b->host) &&
	       same_text(a->hostaddr, b->hostaddr) &&
	       same_text(a->port, b->port);
}

static bool needs_look_up(const struct address *a)
{
	return !a->hostaddr && a->host && *a->host != '/' && *a->host != '@';
}

/* Looks up a host. The next address stays NULL, with a failure, if it fails. */
static void look_up(struct addresses *list, const char *host,
		    struct buf *failures)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM };
	int error = getaddrinfo(host, NULL, &hints, &list->looked_up);
	char *text;

	if (error == 0) {
		list->next = list->looked_up;
		return;
	}
	list->looked_up = NULL;
	text = xasprintf(
		"could not translate host name \"%s\" to address: %s", host,
		error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
	pq_add_line(failures, text);
	free(text);
}

static struct address host_address(const struct addresses *list, size_t n)
{
	return (struct address){
		.host = conninfo_item(list->info->host, n),
		.hostaddr = conninfo_item(list->info->hostaddr, n),
		.port = conninfo_item(list->info->port, n),
	};
}

/* Finds the next address of the host that was looked up last. */
static bool next_looked_up(struct addresses *list, struct address *a)
{
	char text[NI_MAXHOST];

	while (list->next) {
		const struct addrinfo *at = list->next;

		list->next = at->ai_next;
		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text),
				NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		*a = host_address(list, list->next_host - 1);
		a->hostaddr = xstrdup(text);
		return true;
	}
	addresses_end(list);
	return false;
}

bool addresses_next(struct addresses *list, struct address *a,
		    struct buf *failures)
{
	while (!next_looked_up(list, a)) {
		if (list->next_host == list->info->hosts)
			return false;
		*a = host_address(list, list->next_host++);
		if (!needs_look_up(a))
			return true;
		look_up(list, a->host, failures);
		address_free(a);
	}
	return true;
}

bool addresses_left(const struct addresses *list)
{
	return list->next || list->next_host < list->info->hosts;
}

void addresses_end(struct addresses *list)
{
	if (list->looked_up)
		freeaddrinfo(list->looked_up);
	list->looked_up = NULL;
	list->next = NULL;
}
