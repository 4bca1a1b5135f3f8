/* verify: tells which secret a signature was made with. */
#include "base/buf.h"
#include "base/hmac.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/signing_keys.h"
#include "event/signature.h"

#include <stdio.h>

static int judge(const struct verb *v, const struct signing_keys *keys,
		 const struct buf *body, const unsigned char given[HMAC_BYTES])
{
	const struct secret *s = signature_find_secret(
		keys->list, keys->count, body->data, body->length, given);
	struct buf name = { 0 };

	if (!s) {
		cli_error(v,
			  "the signature matches none of %zu active secret%s; "
			  "was the body changed on its way?",
			  keys->count, PLURAL_S(keys->count));
		return EXIT_NEGATIVE;
	}
	cli_escape(&name, s->name);
	printf("signature matches secret %s\n", name.data);
	buf_free(&name);
	return EX_OK;
}

int cmd_verify(const struct verb *v, int argc, char **argv)
{
	struct secret_choice choice = { 0 };
	const char *signature = NULL;
	const struct cli_option options[] = {
		{ "signature", &signature, NULL, "HEX",
		  "check this signature of 64 hexadecimal digits" },
		{ "secret-file", &choice.file, NULL, "FILE",
		  "use the secret in this file, and read no settings" },
		{ "secret-name", &choice.name, NULL, "NAME",
		  "use the active secret of this name (default: all)" },
	};
	unsigned char given[HMAC_BYTES];
	struct buf body = { 0 };
	struct signing_keys keys;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 1,
			 &code))
		return code;
	if (!signature)
		return cli_usage_error(v, "--signature is missing");
	if (!hmac_from_hex(signature, given)) {
		cli_error(v, "'%s' is not a signature (64 hex digits)",
			  signature);
		return EXIT_NEGATIVE;
	}
	code = signing_keys_open(&keys, v, &choice);
	if (code != EX_OK)
		goto out;
	code = cli_read(v, argv[0], &body) ? judge(v, &keys, &body, given)
					   : EX_NOINPUT;
out:
	buf_free(&body);
	signing_keys_close(&keys);
	return code;
}
