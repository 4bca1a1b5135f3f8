/* sign: prints the signature of a file or of stdin. */
#include "base/buf.h"
#include "base/hmac.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/signing_keys.h"

#include <stdio.h>

int cmd_sign(const struct verb *v, int argc, char **argv)
{
	struct secret_choice choice = { 0 };
	const struct cli_option options[] = {
		{ "secret-file", &choice.file, NULL, "FILE",
		  "use the secret in this file, and read no settings" },
		{ "secret-name", &choice.name, NULL, "NAME",
		  "use the active secret of this name (default: the only one)" },
	};
	unsigned char digest[HMAC_BYTES];
	char hex[HMAC_HEX + 1];
	struct buf body = { 0 };
	struct signing_keys keys;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	code = signing_keys_open_one(&keys, v, &choice);
	if (code != EX_OK)
		goto out;
	if (!cli_read(v, argv[0], &body)) {
		code = EX_NOINPUT;
		goto out;
	}
	hmac_sha256(keys.list->key, keys.list->length, body.data, body.length,
		    digest);
	hmac_to_hex(digest, hex);
	puts(hex);
out:
	buf_free(&body);
	signing_keys_close(&keys);
	return code;
}
