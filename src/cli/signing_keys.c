/*
 * Owns the choice of secrets on the command line: those of the settings, one of
 * them by its name, or a file. Must not know what is signed. The secrets stay
 * in the acquired set, of which list is a part.
 */
#include "cli/signing_keys.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <string.h>

static int load_settings(struct signing_keys *k, const struct verb *v,
			 const struct secret_choice *choice)
{
	if (!choice->file)
		return cli_load_settings(v, &k->settings);
	/* A file named on the command line needs no settings. */
	k->settings.secret_file = xstrdup(choice->file);
	return EX_OK;
}

static void list_names(const struct secret_set *set, struct buf *names)
{
	for (size_t i = 0; i < set->count; i++) {
		buf_printf(names, "%s", i ? ", " : "");
		cli_escape(names, set->list[i].name);
	}
}

/*
 * Reports that there are several secrets, or none of that name. Returns
 * EX_USAGE.
 */
static int explain_choice(const struct signing_keys *k, const struct verb *v,
			  const char *name)
{
	struct buf names = { 0 };

	list_names(k->set, &names);
	if (name)
		cli_error(v, "no active secret is named '%s'; active are: %s",
			  name, names.length ? names.data : "none");
	else
		cli_error(v,
			  "there are %zu active secrets: %s; choose one by "
			  "--secret-name NAME",
			  k->set->count, names.data);
	buf_free(&names);
	return EX_USAGE;
}

static int choose(struct signing_keys *k, const struct verb *v,
		  const char *name)
{
	k->list = k->set->list;
	k->count = k->set->count;
	if (!name)
		return EX_OK;
	for (size_t i = 0; i < k->set->count; i++) {
		if (strcmp(k->set->list[i].name, name) == 0) {
			k->list = &k->set->list[i];
			k->count = 1;
			return EX_OK;
		}
	}
	return explain_choice(k, v, name);
}

int signing_keys_open(struct signing_keys *k, const struct verb *v,
		      const struct secret_choice *choice)
{
	struct buf errors = { 0 };
	int code;

	*k = (struct signing_keys){ 0 };
	if (choice->file && choice->name)
		return cli_usage_error(v,
				       "give --secret-file or --secret-name, "
				       "not both");
	code = load_settings(k, v, choice);
	if (code != EX_OK)
		return code;
	k->secrets = secrets_open(&k->settings, &errors);
	if (!k->secrets) {
		code = cli_config_errors(v, &errors);
	} else {
		k->set = secrets_acquire(k->secrets);
		code = choose(k, v, choice->name);
	}
	buf_free(&errors);
	return code;
}

int signing_keys_open_one(struct signing_keys *k, const struct verb *v,
			  const struct secret_choice *choice)
{
	int code = signing_keys_open(k, v, choice);

	if (code == EX_OK && k->count != 1)
		code = explain_choice(k, v, NULL);
	return code;
}

void signing_keys_close(struct signing_keys *k)
{
	if (k->set)
		secrets_release(k->secrets, k->set);
	if (k->secrets)
		secrets_close(k->secrets);
	settings_free(&k->settings);
	*k = (struct signing_keys){ 0 };
}
