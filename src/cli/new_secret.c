/*
 * Owns how a new secret is drawn, and which URL names a secret. Must not know
 * where the secret is kept.
 */
#include "cli/new_secret.h"

#include "base/alloc.h"
#include "base/hmac.h"
#include "base/random.h"
#include "config/secret_set.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool secret_draw(struct buf *text)
{
	unsigned char drawn[HMAC_BYTES];
	char hex[HMAC_HEX + 1];

	if (!random_bytes(drawn, sizeof(drawn)))
		return false;
	hmac_to_hex(drawn, hex);
	buf_printf(text, "whsec_%s", hex);
	explicit_bzero(hex, sizeof(hex));
	explicit_bzero(drawn, sizeof(drawn));
	return true;
}

char *secret_url(const char *url, const char *name)
{
	size_t length = strcspn(url, "?#"), name_length = strlen(name);
	const char *query = url + length;

	if (!secret_name_fits_path(name, name_length))
		return xstrdup(url);
	if (length > name_length && url[length - name_length - 1] == '/' &&
	    strncmp(query - name_length, name, name_length) == 0)
		return xstrdup(url);
	while (length && url[length - 1] == '/')
		length--;
	return xasprintf("%.*s/%s%s", (int)length, url, name, query);
}

char *secret_guess_url(bool home)
{
	char host[256];

	if (gethostname(host, sizeof(host)) < 0)
		snprintf(host, sizeof(host), "hooks.example.org");
	host[sizeof(host) - 1] = '\0';
	return xasprintf("https://%s/humcli%s", host,
			 home ? "/webhook.cgi" : "");
}
