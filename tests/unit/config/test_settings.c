/* The settings: their sources, invalid values, modes of files with secrets. */
#include "config/settings.h"

#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "config/settings_table.h"
#include "scratch.h"

static int make_scratch(void **state)
{
	struct scratch *s = xcalloc(1, sizeof(*s));

	scratch_make(s);
	scratch_mkdir(s, "etc", 0755);
	scratch_mkdir(s, "home", 0755);
	scratch_mkdir(s, "home/.humcli-webhook", 0755);
	*state = s;
	return 0;
}

static int remove_scratch(void **state)
{
	scratch_remove(*state);
	free(*state);
	return 0;
}

/* The folders of a system and of a user, all in the scratch folder. */
struct world {
	const struct scratch *scratch;
	char *sysconfdir, *localstatedir, *home;
	char *environment[24];
	size_t variables;
	struct settings settings;
	struct buf errors;
	bool good; /* the result of settings_load() */
};

static void world_make(struct world *w, const struct scratch *s)
{
	*w = (struct world){ .scratch = s,
			     .sysconfdir = scratch_path(s, "etc"),
			     .localstatedir = scratch_path(s, "var"),
			     .home = scratch_path(s, "home") };
}

/*
 * Adds NAME=value; a value that begins with @/ is a path in the scratch folder.
 */
static void world_set(struct world *w, const char *variable)
{
	const char *at = strstr(variable, "=@/");

	assert_true(w->variables + 1 < ARRAY_SIZE(w->environment));
	w->environment[w->variables++] =
		at ? xasprintf("%.*s=%s/%s", (int)(at - variable), variable,
			       w->scratch->path, at + 3)
		   : xstrdup(variable);
}

static void world_load(struct world *w)
{
	struct settings_sources places = { .environment = w->environment,
					   .sysconfdir = w->sysconfdir,
					   .localstatedir = w->localstatedir,
					   .home = w->home };

	buf_add(&w->errors, "", 0);
	w->good = settings_load(&w->settings, &places, &w->errors);
}

static void world_free(struct world *w)
{
	settings_free(&w->settings);
	buf_free(&w->errors);
	for (size_t i = 0; i < w->variables; i++)
		free(w->environment[i]);
	free(w->sysconfdir);
	free(w->localstatedir);
	free(w->home);
}

/* Returns the value of a setting as text; "none" for NULL. */
static char *shown(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < settings_key_count; i++) {
		const struct settings_key *key = &settings_keys[i];
		const void *at = (const char *)s + key->offset;

		if (strcmp(key->name, name) != 0)
			continue;
		switch (key->type) {
		case TYPE_SIZE:
			return xasprintf("%ju",
					 (uintmax_t) * (const uint64_t *)at);
		case TYPE_COUNT:
			return xasprintf("%u", *(const unsigned *)at);
		case TYPE_MS:
		case TYPE_US:
			return xasprintf("%jd",
					 (intmax_t) * (const int64_t *)at);
		case TYPE_LEVEL:
			return xstrdup(
				log_level_name(*(const enum log_level *)at));
		case TYPE_FORMAT:
			return xstrdup(*(const enum log_format *)at == LOG_JSON
					       ? "json"
					       : "logfmt");
		default:
			return xstrdup(*(char *const *)at ? *(char *const *)at
							  : "none");
		}
	}
	fail_msg("no setting is called %s", name);
	return NULL;
}

/* Expects a value; if it begins with @/, it is a path in the scratch folder. */
static void expect(int line, const struct world *w, const char *name,
		   const char *value)
{
	char *got = shown(&w->settings, name);
	char *wanted = strncmp(value, "@/", 2) == 0
			       ? scratch_path(w->scratch, value + 2)
			       : xstrdup(value);

	if (strcmp(got, wanted) != 0)
		fail_msg("line %d: %s is '%s', not '%s'", line, name, got,
			 wanted);
	free(wanted);
	free(got);
}

static void test_defaults(void **state)
{
	static const struct {
		int line;
		const char *name, *value;
	} cases[] = {
		{ __LINE__, "DATABASE", "" },
		{ __LINE__, "SECRET", "none" },
		{ __LINE__, "SECRET_FILE", "none" },
		{ __LINE__, "SECRET_DIR", "none" },
		{ __LINE__, "MAX_BODY", "65536" },
		{ __LINE__, "DEADLINE", "3000" },
		{ __LINE__, "THREADS", "64" },
		{ __LINE__, "IN_FLIGHT", "512" },
		{ __LINE__, "LOG_FORMAT", "logfmt" },
		{ __LINE__, "BATCH", "256" },
		{ __LINE__, "REDELIVERY_WINDOW", "600000000" },
		{ __LINE__, "IDLE_DISCONNECT", "60000" },
		{ __LINE__, "SPOOL", "@/var/spool/humcli-webhook" },
		{ __LINE__, "SPOOL_MAX", "268435456" },
		{ __LINE__, "KEY_DIR", "none" },
		{ __LINE__, "API", "https://api.humcli.com/api/v1" },
		{ __LINE__, "LOG", "stderr" },
		{ __LINE__, "LOG_LEVEL", "info" },
	};
	struct world w;

	world_make(&w, *state);
	world_load(&w);
	assert_string_equal(w.errors.data, "");
	assert_true(w.good);
	assert_null(w.settings.file);
	assert_int_equal(ARRAY_SIZE(cases), settings_key_count);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect(cases[i].line, &w, cases[i].name, cases[i].value);
	world_free(&w);
}

/* Each value in the settings file and in the environment. */
static void test_values(void **state)
{
	static const struct {
		int line;
		const char *name, *text, *value; /* NULL: invalid */
	} cases[] = {
		{ __LINE__, "DATABASE", "host=/run dbname=a",
		  "host=/run dbname=a" },
		{ __LINE__, "DATABASE", "dbname=a#b", "dbname=a#b" },
		{ __LINE__, "DATABASE", "", "" },
		{ __LINE__, "DATABASE", "\"x\"", "\"x\"" },
		{ __LINE__, "SECRET", "whsec_a=b=", "whsec_a=b=" },
		{ __LINE__, "SECRET", "'quoted'", "'quoted'" },
		{ __LINE__, "SECRET", "", NULL },
		{ __LINE__, "SECRET", "   ", NULL },
		{ __LINE__, "SECRET_FILE", "/a b/c", "/a b/c" },
		{ __LINE__, "SECRET_FILE", "", "none" },
		{ __LINE__, "SECRET_FILE", "c", NULL },
		{ __LINE__, "SECRET_DIR", "/s", "/s" },
		{ __LINE__, "SECRET_DIR", "", "none" },
		{ __LINE__, "SECRET_DIR", "~/s", NULL },
		{ __LINE__, "MAX_BODY", "1KiB", "1024" },
		{ __LINE__, "MAX_BODY", "1023B", NULL },
		{ __LINE__, "MAX_BODY", "16MiB", "16777216" },
		{ __LINE__, "MAX_BODY", "16777217B", NULL },
		{ __LINE__, "MAX_BODY", "65536", NULL },
		{ __LINE__, "MAX_BODY", "1s", NULL },
		{ __LINE__, "MAX_BODY", "", NULL },
		{ __LINE__, "DEADLINE", "200ms", "200" },
		{ __LINE__, "DEADLINE", "199.999ms", NULL },
		{ __LINE__, "DEADLINE", "0.2s", "200" },
		{ __LINE__, "DEADLINE", "10s", "10000" },
		{ __LINE__, "DEADLINE", "10.001s", NULL },
		{ __LINE__, "DEADLINE", "3", NULL },
		{ __LINE__, "THREADS", "1", "1" },
		{ __LINE__, "THREADS", "0", NULL },
		{ __LINE__, "THREADS", "1024", "1024" },
		{ __LINE__, "THREADS", "1025", NULL },
		{ __LINE__, "THREADS", "4294967297", NULL },
		{ __LINE__, "THREADS", "-1", NULL },
		{ __LINE__, "THREADS", "1.5", NULL },
		{ __LINE__, "THREADS", "64B", NULL },
		{ __LINE__, "IN_FLIGHT", "1", "1" },
		{ __LINE__, "IN_FLIGHT", "65536", "65536" },
		{ __LINE__, "IN_FLIGHT", "65537", NULL },
		{ __LINE__, "LOG_FORMAT", "logfmt", "logfmt" },
		{ __LINE__, "LOG_FORMAT", "json", "json" },
		{ __LINE__, "LOG_FORMAT", "JSON", NULL },
		{ __LINE__, "LOG_FORMAT", "", NULL },
		{ __LINE__, "BATCH", "1", "1" },
		{ __LINE__, "BATCH", "0", NULL },
		{ __LINE__, "BATCH", "4096", "4096" },
		{ __LINE__, "BATCH", "4097", NULL },
		{ __LINE__, "REDELIVERY_WINDOW", "0s", "0" },
		{ __LINE__, "REDELIVERY_WINDOW", "1.5s", "1500000" },
		{ __LINE__, "REDELIVERY_WINDOW", "168h", "604800000000" },
		{ __LINE__, "REDELIVERY_WINDOW", "168.001h", NULL },
		{ __LINE__, "IDLE_DISCONNECT", "1s", "1000" },
		{ __LINE__, "IDLE_DISCONNECT", "999ms", NULL },
		{ __LINE__, "IDLE_DISCONNECT", "24h", "86400000" },
		{ __LINE__, "IDLE_DISCONNECT", "24.001h", NULL },
		{ __LINE__, "SPOOL", "/p", "/p" },
		{ __LINE__, "SPOOL", "", "" },
		{ __LINE__, "SPOOL", "p", NULL },
		{ __LINE__, "SPOOL_MAX", "64KiB", "65536" },
		{ __LINE__, "SPOOL_MAX", "65535B", NULL },
		{ __LINE__, "SPOOL_MAX", "1024GiB", "1099511627776" },
		{ __LINE__, "SPOOL_MAX", "1025GiB", NULL },
		{ __LINE__, "KEY_DIR", "/k", "/k" },
		{ __LINE__, "KEY_DIR", "", "none" },
		{ __LINE__, "KEY_DIR", "k", NULL },
		{ __LINE__, "API", "https://a.example/v2",
		  "https://a.example/v2" },
		{ __LINE__, "API", "", "https://api.humcli.com/api/v1" },
		{ __LINE__, "LOG", "stderr", "stderr" },
		{ __LINE__, "LOG", "syslog", "syslog" },
		{ __LINE__, "LOG", "/l", "/l" },
		{ __LINE__, "LOG", "sysylog", NULL },
		{ __LINE__, "LOG", "", NULL },
		{ __LINE__, "LOG_LEVEL", "error", "error" },
		{ __LINE__, "LOG_LEVEL", "warning", "warning" },
		{ __LINE__, "LOG_LEVEL", "debug", "debug" },
		{ __LINE__, "LOG_LEVEL", "INFO", NULL },
		{ __LINE__, "LOG_LEVEL", "", NULL },
	};
	const struct scratch *s = *state;

	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		size_t c = i / 2;
		bool in_file = i % 2;
		char *where = xasprintf(in_file ? "%s/etc/humcli-webhook.conf:1"
						: "environment",
					s->path);
		char *fault = xasprintf("%s: HUMCLI_WEBHOOK_%s must ", where,
					cases[c].name);
		char *text = xasprintf("HUMCLI_WEBHOOK_%s=%s", cases[c].name,
				       cases[c].text);
		struct world w;

		world_make(&w, s);
		if (in_file)
			scratch_write(s, "etc/humcli-webhook.conf", 0600, text);
		else
			world_set(&w, text);
		world_load(&w);
		if (w.good != (cases[c].value != NULL))
			fail_msg("line %d: %d, %s", cases[c].line, w.good,
				 w.errors.data);
		if (cases[c].value)
			expect(cases[c].line, &w, cases[c].name,
			       cases[c].value);
		else if (strncmp(w.errors.data, fault, strlen(fault)) != 0 ||
			 count_of(w.errors.data, "\n") != 1)
			fail_msg("line %d: %s", cases[c].line, w.errors.data);
		if (in_file)
			scratch_unlink(s, "etc/humcli-webhook.conf");
		world_free(&w);
		free(text);
		free(fault);
		free(where);
	}
}

/* The form of the settings file; FILE in an error stands for its path. */
static void test_lines(void **state)
{
	static const struct {
		int line;
		const char *text, *threads, *error;
	} cases[] = {
		{ __LINE__, "", "64", "" },
		{ __LINE__, "\n\n", "64", "" },
		{ __LINE__, "HUMCLI_WEBHOOK_THREADS=5", "5", "" },
		{ __LINE__, "HUMCLI_WEBHOOK_THREADS=5\n", "5", "" },
		{ __LINE__, "HUMCLI_WEBHOOK_THREADS=5\r\n\r\n", "5", "" },
		{ __LINE__, "\t HUMCLI_WEBHOOK_THREADS \t=\t 5 \t\n", "5", "" },
		{ __LINE__, "# a comment\n  # another=one\n", "64", "" },
		{ __LINE__, "#HUMCLI_WEBHOOK_THREADS=5\n", "64", "" },
		{ __LINE__, "HUMCLI_WEBHOOK_THREADS=5 # five\n", "64",
		  "FILE:1: HUMCLI_WEBHOOK_THREADS must be an integer from 1 "
		  "to 1024\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_THREADS=\"5\"\n", "64",
		  "FILE:1: HUMCLI_WEBHOOK_THREADS must be an integer from 1 "
		  "to 1024\n" },
		{ __LINE__, "\n\nHUMCLI_WEBHOOK_THREADS\n", "64",
		  "FILE:3: not of the form HUMCLI_WEBHOOK_KEY=value\n" },
		{ __LINE__, "[humcli]\n", "64",
		  "FILE:1: not of the form HUMCLI_WEBHOOK_KEY=value\n" },
		{ __LINE__, "THREADS=5\n", "64",
		  "FILE:1: THREADS must be written HUMCLI_WEBHOOK_THREADS\n" },
		{ __LINE__, "export HUMCLI_WEBHOOK_THREADS=5\n", "64",
		  "FILE:1: not a setting, whose names begin with "
		  "HUMCLI_WEBHOOK_\n" },
		{ __LINE__, "=5\n", "64",
		  "FILE:1: not a setting, whose names begin with "
		  "HUMCLI_WEBHOOK_\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_TREADS=5\n", "64",
		  "FILE:1: HUMCLI_WEBHOOK_TREADS is not a known setting\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_threads=5\n", "64",
		  "FILE:1: HUMCLI_WEBHOOK_threads is not a known setting\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_=5\n", "64",
		  "FILE:1: HUMCLI_WEBHOOK_ is not a known setting\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_CONFIG=/x\n", "64",
		  "FILE:1: HUMCLI_WEBHOOK_CONFIG is not a known setting\n" },
		{ __LINE__,
		  "HUMCLI_WEBHOOK_THREADS=5\n#\nHUMCLI_WEBHOOK_THREADS=6\n",
		  "6",
		  "FILE:3: HUMCLI_WEBHOOK_THREADS is already set in "
		  "line 1\n" },
		/* A byte order mark is skipped at the start, and only there. */
		{ __LINE__, "\xef\xbb\xbfHUMCLI_WEBHOOK_THREADS=5\n", "5", "" },
		{ __LINE__, "\xef\xbb\xbf# x\nHUMCLI_WEBHOOK_THREADS=5\n", "5",
		  "" },
		{ __LINE__, "\xef\xbb\xbf", "64", "" },
		{ __LINE__,
		  "HUMCLI_WEBHOOK_THREADS=5\n\xef\xbb\xbfHUMCLI_WEBHOOK_BATCH=6",
		  "5",
		  "FILE:2: not a setting, whose names begin with "
		  "HUMCLI_WEBHOOK_\n" },
		/* A pasted secret is not shown. */
		{ __LINE__, "whsec_c2VjcmV0Cg==\n", "64",
		  "FILE:1: not a setting, whose names begin with "
		  "HUMCLI_WEBHOOK_\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_SECRET whsec_c2VjcmV0Cg==\n", "64",
		  "FILE:1: not a setting, whose names begin with "
		  "HUMCLI_WEBHOOK_\n" },
		{ __LINE__, "HUMCLI_WEBHOOK_SECRET: whsec_c2VjcmV0\n", "64",
		  "FILE:1: not of the form HUMCLI_WEBHOOK_KEY=value\n" },
		/* All faults at once. */
		{ __LINE__,
		  "HUMCLI_WEBHOOK_BATCH=0\nx\nHUMCLI_WEBHOOK_THREADS=7\n"
		  "HUMCLI_WEBHOOK_LOG_LEVEL=loud\n",
		  "7",
		  "FILE:1: HUMCLI_WEBHOOK_BATCH must be an integer from 1 to "
		  "4096\n"
		  "FILE:2: not of the form HUMCLI_WEBHOOK_KEY=value\n"
		  "FILE:4: HUMCLI_WEBHOOK_LOG_LEVEL must be error, warning, "
		  "info or debug\n" },
	};
	const struct scratch *s = *state;
	char *path = scratch_path(s, "etc/humcli-webhook.conf");

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf wanted = { 0 };
		struct world w;

		buf_add(&wanted, "", 0);
		for (const char *c = cases[i].error; *c; c++) {
			if (strncmp(c, "FILE", 4) == 0) {
				buf_printf(&wanted, "%s", path);
				c += 3;
			} else {
				buf_add(&wanted, c, 1);
			}
		}
		scratch_write(s, "etc/humcli-webhook.conf", 0600,
			      cases[i].text);
		world_make(&w, s);
		world_load(&w);
		if (strcmp(w.errors.data, wanted.data) != 0 ||
		    w.good != (wanted.length == 0))
			fail_msg("line %d: %d, '%s', not '%s'", cases[i].line,
				 w.good, w.errors.data, wanted.data);
		expect(cases[i].line, &w, "THREADS", cases[i].threads);
		assert_string_equal(w.settings.file, path);
		world_free(&w);
		buf_free(&wanted);
	}
	free(path);
}

static void test_odd_files(void **state)
{
	static const char nul[] = "HUMCLI_WEBHOOK_THREADS=5\n"
				  "HUMCLI_WEBHOOK_BATCH=5\0junk\n";
	const struct scratch *s = *state;
	struct buf text = { 0 };
	struct world w;

	scratch_write_bytes(s, "etc/humcli-webhook.conf", 0600, nul,
			    sizeof(nul) - 1);
	world_make(&w, s);
	world_load(&w);
	assert_non_null(
		strstr(w.errors.data, "humcli-webhook.conf:2: holds a NUL"));
	expect(__LINE__, &w, "THREADS", "5");
	expect(__LINE__, &w, "BATCH", "256");
	world_free(&w);

	/* 64 KiB to the byte, and one byte more. */
	while (text.length < 65536 - 25)
		buf_add(&text, "\n", 1);
	buf_printf(&text, "HUMCLI_WEBHOOK_THREADS=5\n");
	assert_int_equal(text.length, 65536);
	scratch_write(s, "etc/humcli-webhook.conf", 0600, text.data);
	world_make(&w, s);
	world_load(&w);
	assert_true(w.good);
	expect(__LINE__, &w, "THREADS", "5");
	world_free(&w);
	buf_add(&text, "\n", 1);
	scratch_write(s, "etc/humcli-webhook.conf", 0600, text.data);
	world_make(&w, s);
	world_load(&w);
	assert_non_null(strstr(w.errors.data, ": larger than 64KiB\n"));
	assert_false(w.good);
	world_free(&w);
	buf_free(&text);

	/* A folder, and a FIFO without a writer. */
	for (int fifo = 0; fifo < 2; fifo++) {
		char *path = scratch_path(s, "etc/humcli-webhook.conf");

		scratch_unlink(s, "etc/humcli-webhook.conf");
		assert_int_equal(fifo ? mkfifo(path, 0600) : mkdir(path, 0700),
				 0);
		world_make(&w, s);
		world_load(&w);
		assert_non_null(strstr(w.errors.data, ": not a regular file"));
		assert_false(w.good);
		world_free(&w);
		free(path);
	}
}

/* Which file is read; LOOP stands for one that even root can't read. */
static void test_search(void **state)
{
	enum { NONE, FILE_, LOOP };
	static const struct {
		int line;
		int system, user;
		const char *config; /* NULL: not set */
		const char *file; /* NULL: no file is read */
		const char *error; /* a part of it; NULL: no error */
	} cases[] = {
		{ __LINE__, NONE, NONE, NULL, NULL, NULL },
		{ __LINE__, FILE_, NONE, NULL, "@/etc/humcli-webhook.conf",
		  NULL },
		{ __LINE__, FILE_, FILE_, NULL,
		  "@/home/.humcli-webhook/humcli-webhook.conf", NULL },
		{ __LINE__, NONE, FILE_, NULL,
		  "@/home/.humcli-webhook/humcli-webhook.conf", NULL },
		{ __LINE__, LOOP, FILE_, NULL,
		  "@/home/.humcli-webhook/humcli-webhook.conf", NULL },
		{ __LINE__, LOOP, NONE, NULL, NULL,
		  "/etc/humcli-webhook.conf: Too many levels of" },
		{ __LINE__, NONE, LOOP, NULL, NULL,
		  "/.humcli-webhook/humcli-webhook.conf: Too many levels of" },
		/* A file in the home that can't be read is not passed over. */
		{ __LINE__, FILE_, LOOP, NULL, NULL,
		  "/.humcli-webhook/humcli-webhook.conf: Too many levels of" },
		{ __LINE__, LOOP, LOOP, NULL, NULL,
		  "/.humcli-webhook/humcli-webhook.conf: Too many levels of" },
		{ __LINE__, FILE_, FILE_, "@/named.conf", "@/named.conf",
		  NULL },
		{ __LINE__, FILE_, FILE_, "",
		  "@/home/.humcli-webhook/humcli-webhook.conf", NULL },
		{ __LINE__, FILE_, NONE, "", "@/etc/humcli-webhook.conf",
		  NULL },
		{ __LINE__, FILE_, FILE_, "@/missing.conf", NULL,
		  "HUMCLI_WEBHOOK_CONFIG: " },
		{ __LINE__, FILE_, FILE_, "@/etc/humcli-webhook.conf/x", NULL,
		  "Not a directory" },
	};
	static const char *const names[] = {
		"etc/humcli-webhook.conf",
		"home/.humcli-webhook/humcli-webhook.conf"
	};
	const struct scratch *s = *state;

	scratch_write(s, "named.conf", 0600, "HUMCLI_WEBHOOK_THREADS=3\n");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const int kinds[] = { cases[i].system, cases[i].user };
		struct world w;

		for (int k = 0; k < 2; k++) {
			if (kinds[k] == FILE_)
				scratch_write(s, names[k], 0600, "#\n");
			else if (kinds[k] == LOOP)
				scratch_symlink(s, "humcli-webhook.conf",
						names[k]);
		}
		world_make(&w, s);
		if (cases[i].config) {
			char *text = xasprintf("HUMCLI_WEBHOOK_CONFIG=%s",
					       cases[i].config);

			world_set(&w, text);
			free(text);
		}
		world_load(&w);
		if (w.good != (cases[i].error == NULL) ||
		    count_of(w.errors.data, "\n") != !w.good ||
		    (cases[i].error && !strstr(w.errors.data, cases[i].error)))
			fail_msg("line %d: %d, '%s'", cases[i].line, w.good,
				 w.errors.data);
		if (!cases[i].file != !w.settings.file ||
		    (w.settings.file &&
		     strcmp(w.settings.file + strlen(s->path),
			    cases[i].file + 1) != 0))
			fail_msg("line %d: read %s", cases[i].line,
				 w.settings.file ? w.settings.file : "none");
		world_free(&w);
		for (int k = 0; k < 2; k++) {
			if (kinds[k] != NONE)
				scratch_unlink(s, names[k]);
		}
	}
}

/* A system file of another user with mode 0600, as on a shared host. */
static void test_foreign_system_file(void **state)
{
	const struct scratch *s = *state;
	struct world w;
	bool root = geteuid() == 0;

	scratch_write(s, "etc/humcli-webhook.conf", root ? 0600 : 0,
		      "HUMCLI_WEBHOOK_THREADS=5\n");
	scratch_write(s, "home/.humcli-webhook/humcli-webhook.conf", 0644,
		      "HUMCLI_WEBHOOK_THREADS=6\n");
	world_make(&w, s);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	world_load(&w);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_string_equal(w.errors.data, "");
	expect(__LINE__, &w, "THREADS", "6");
	world_free(&w);
}

/* A home that this process can't look into, as with ProtectHome=. */
static void test_hidden_home(void **state)
{
	const struct scratch *s = *state;
	bool root = geteuid() == 0;
	char *home = scratch_path(s, "home");
	struct world w;

	scratch_write(s, "etc/humcli-webhook.conf", 0644,
		      "HUMCLI_WEBHOOK_THREADS=5\n");
	scratch_write(s, "home/.humcli-webhook/humcli-webhook.conf", 0644,
		      "HUMCLI_WEBHOOK_THREADS=6\n");
	assert_int_equal(chmod(home, 0), 0);
	world_make(&w, s);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	world_load(&w);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(home, 0700), 0);
	assert_string_equal(w.errors.data, "");
	expect(__LINE__, &w, "THREADS", "5");
	world_free(&w);
	free(home);
}

/* Variables that orchestrators add for a service called humcli-webhook. */
static void test_injected(void **state)
{
	static const char *const passed_over[] = {
		"PORT=tcp://10.0.0.7:9000",
		"PORT=udp://10.0.0.7:9000",
		"SERVICE_HOST=10.0.0.7",
		"SERVICE_PORT=9000",
		"SERVICE_PORT_FASTCGI=9000",
		"PORT_9000_TCP=tcp://10.0.0.7:9000",
		"PORT_9000_TCP_PROTO=tcp",
		"PORT_9000_TCP_PORT=9000",
		"PORT_9000_TCP_ADDR=10.0.0.7",
		"PORT_53_UDP=udp://10.0.0.7:53",
		"PORT_53_SCTP_ADDR=10.0.0.7",
		"DB_SERVICE_HOST=10.0.0.8",
		"DB_PORT=tcp://10.0.0.8:5432",
		"DB_PORT_5432_TCP_ADDR=10.0.0.8",
		"NAME=/web/humcli-webhook",
		"ENV_PATH=/bin",
	};
	static const char *const refused[] = {
		"PORT=9000",	 "PORT=",	    "PORT_9000=x",
		"PORT_X_TCP=x",	 "SERVICE_HOSTS=x", "SERVICE=x",
		"NAME=web",	 "ENV=x",	    "PORT_9000_TCP_X=x",
		"SERVICEPORT=x", "service_host=x",  "ENVIRONMENT_X=x",
	};
	const struct scratch *s = *state;
	struct world w;

	world_make(&w, s);
	for (size_t i = 0; i < ARRAY_SIZE(passed_over); i++) {
		char *text = xasprintf("HUMCLI_WEBHOOK_%s", passed_over[i]);

		world_set(&w, text);
		free(text);
	}
	world_load(&w);
	assert_string_equal(w.errors.data, "");
	world_free(&w);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		char *text = xasprintf("HUMCLI_WEBHOOK_%s", refused[i]);

		world_make(&w, s);
		world_set(&w, text);
		world_load(&w);
		if (w.good || !strstr(w.errors.data, "not a known setting"))
			fail_msg("%s: '%s'", text, w.errors.data);
		world_free(&w);
		free(text);
	}
}

/* Where faults are logged when the settings can't be used. */
static void test_fault_log(void **state)
{
	static const struct {
		int line;
		const char *file, *variable, *log;
	} cases[] = {
		{ __LINE__, NULL, NULL, "@/home/.humcli-webhook/log" },
		{ __LINE__, "home/.humcli-webhook/humcli-webhook.conf", NULL,
		  "@/home/.humcli-webhook/log" },
		{ __LINE__, "home/.humcli-webhook/humcli-webhook.conf",
		  "HUMCLI_WEBHOOK_LOG=@/x", "@/x" },
		{ __LINE__, NULL, "HUMCLI_WEBHOOK_LOG=stderr", "stderr" },
		{ __LINE__, "etc/humcli-webhook.conf", NULL, "stderr" },
	};
	const struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *log = cases[i].log[0] == '@'
				    ? scratch_path(s, cases[i].log + 2)
				    : xstrdup(cases[i].log);
		struct world w;

		if (cases[i].file)
			scratch_write(s, cases[i].file, 0600,
				      "HUMCLI_WEBHOOK_NONSENSE=1\n");
		world_make(&w, s);
		world_set(&w, "HUMCLI_WEBHOOK_THREADS=none");
		if (cases[i].variable)
			world_set(&w, cases[i].variable);
		world_load(&w);
		assert_false(w.good);
		if (strcmp(w.settings.fault_log, log) != 0)
			fail_msg("line %d: %s", cases[i].line,
				 w.settings.fault_log);
		world_free(&w);
		if (cases[i].file)
			scratch_unlink(s, cases[i].file);
		free(log);
	}
}

/* The home of a user without an entry in the user database is $HOME. */
static void test_home_variable(void **state)
{
	static const struct {
		const char *variable, *home;
	} cases[] = { { "/x", "/x" }, { "relative", NULL }, { "", NULL } };
	pid_t child;
	int status;

	(void)state;
	if (geteuid() != 0 || getpwuid(54321))
		skip();
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setuid(54321) < 0)
			_exit(1);
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			const char *home;

			if (setenv("HOME", cases[i].variable, 1) < 0)
				_exit(1);
			home = settings_sources().home;
			if (!home != !cases[i].home ||
			    (home && strcmp(home, cases[i].home) != 0))
				_exit(1);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Defaults that depend on which settings file was read. */
static void test_places(void **state)
{
	static const struct {
		int line;
		const char *file; /* of a settings file; NULL: none */
		const char *text;
		const char *variables[2];
		const char *secret_dir, *spool, *log;
		bool given; /* SECRET_DIR */
	} cases[] = {
		{ __LINE__,
		  NULL,
		  "",
		  { NULL },
		  "none",
		  "@/var/spool/humcli-webhook",
		  "stderr",
		  false },
		{ __LINE__,
		  NULL,
		  "",
		  { "CREDENTIALS_DIRECTORY=/c" },
		  "/c",
		  "@/var/spool/humcli-webhook",
		  "stderr",
		  false },
		{ __LINE__,
		  NULL,
		  "",
		  { "CREDENTIALS_DIRECTORY=" },
		  "none",
		  "@/var/spool/humcli-webhook",
		  "stderr",
		  false },
		{ __LINE__,
		  NULL,
		  "",
		  { "CREDENTIALS_DIRECTORY=relative" },
		  "none",
		  "@/var/spool/humcli-webhook",
		  "stderr",
		  false },
		{ __LINE__,
		  "etc/humcli-webhook.conf",
		  "",
		  { NULL },
		  "none",
		  "@/var/spool/humcli-webhook",
		  "stderr",
		  false },
		{ __LINE__,
		  "home/.humcli-webhook/humcli-webhook.conf",
		  "",
		  { NULL },
		  "@/home/.humcli-webhook/secrets",
		  "@/home/.humcli-webhook/spool",
		  "@/home/.humcli-webhook/log",
		  false },
		{ __LINE__,
		  "home/.humcli-webhook/humcli-webhook.conf",
		  "",
		  { "CREDENTIALS_DIRECTORY=/c" },
		  "@/home/.humcli-webhook/secrets",
		  "@/home/.humcli-webhook/spool",
		  "@/home/.humcli-webhook/log",
		  false },
		{ __LINE__,
		  "home/.humcli-webhook/humcli-webhook.conf",
		  "HUMCLI_WEBHOOK_SECRET_DIR=/s\nHUMCLI_WEBHOOK_SPOOL=\n"
		  "HUMCLI_WEBHOOK_LOG=syslog\n",
		  { NULL },
		  "/s",
		  "",
		  "syslog",
		  true },
		{ __LINE__,
		  "home/.humcli-webhook/humcli-webhook.conf",
		  "HUMCLI_WEBHOOK_SECRET_DIR=/s\nHUMCLI_WEBHOOK_SPOOL=/p\n",
		  { "HUMCLI_WEBHOOK_SECRET_DIR=", "HUMCLI_WEBHOOK_SPOOL=/q" },
		  "none",
		  "/q",
		  "@/home/.humcli-webhook/log",
		  true },
		/* Named by a variable, it is the same file. */
		{ __LINE__,
		  "home/.humcli-webhook/humcli-webhook.conf",
		  "",
		  { "HUMCLI_WEBHOOK_CONFIG=@/home/.humcli-webhook/"
		    "humcli-webhook.conf" },
		  "@/home/.humcli-webhook/secrets",
		  "@/home/.humcli-webhook/spool",
		  "@/home/.humcli-webhook/log",
		  false },
		{ __LINE__,
		  "other.conf",
		  "",
		  { "HUMCLI_WEBHOOK_CONFIG=@/other.conf" },
		  "none",
		  "@/var/spool/humcli-webhook",
		  "stderr",
		  false },
	};
	const struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world w;

		if (cases[i].file)
			scratch_write(s, cases[i].file, 0600, cases[i].text);
		world_make(&w, s);
		for (int v = 0; v < 2 && cases[i].variables[v]; v++)
			world_set(&w, cases[i].variables[v]);
		world_load(&w);
		if (!w.good)
			fail_msg("line %d: %s", cases[i].line, w.errors.data);
		expect(cases[i].line, &w, "SECRET_DIR", cases[i].secret_dir);
		expect(cases[i].line, &w, "SPOOL", cases[i].spool);
		expect(cases[i].line, &w, "LOG", cases[i].log);
		if (w.settings.secret_dir_given != cases[i].given)
			fail_msg("line %d: given", cases[i].line);
		world_free(&w);
		if (cases[i].file)
			scratch_unlink(s, cases[i].file);
	}
}

static void test_no_home(void **state)
{
	struct world w;

	/* No home, one that is missing, and one that is not a folder. */
	for (int i = 0; i < 3; i++) {
		world_make(&w, *state);
		free(w.home);
		w.home = i ? scratch_path(*state, i == 1 ? "none" : "file")
			   : NULL;
		scratch_write(*state, "file", 0600, "");
		world_load(&w);
		assert_string_equal(w.errors.data, "");
		expect(__LINE__, &w, "SPOOL", "@/var/spool/humcli-webhook");
		world_free(&w);
	}
}

static void test_environment(void **state)
{
	const struct scratch *s = *state;
	struct world w;

	scratch_write(s, "etc/humcli-webhook.conf", 0600,
		      "HUMCLI_WEBHOOK_THREADS=5\nHUMCLI_WEBHOOK_BATCH=6\n"
		      "HUMCLI_WEBHOOK_SECRET=of-the-file\n");
	world_make(&w, s);
	world_set(&w, "HUMCLI_WEBHOOK_THREADS= 7 ");
	world_set(&w, "HUMCLI_WEBHOOK_SECRET=of-the-environment");
	world_set(&w, "HTTP_HUMCLI_WEBHOOK_BATCH=9");
	world_set(&w, "HUMCLI_WEBHOOK");
	world_set(&w, "PATH=/bin");
	world_load(&w);
	assert_string_equal(w.errors.data, "");
	expect(__LINE__, &w, "THREADS", "7");
	expect(__LINE__, &w, "BATCH", "6");
	expect(__LINE__, &w, "SECRET", "of-the-environment");
	world_free(&w);

	/* All faults of both at once, without showing a secret. */
	scratch_write(s, "etc/humcli-webhook.conf", 0600,
		      "HUMCLI_WEBHOOK_BATCH=hidden\n");
	world_make(&w, s);
	world_set(&w, "HUMCLI_WEBHOOK_TREADS=hidden");
	world_set(&w, "HUMCLI_WEBHOOK_THREADS=hidden");
	world_set(&w, "HUMCLI_WEBHOOK_SECRET_DIR=hidden");
	world_load(&w);
	assert_false(w.good);
	assert_int_equal(count_of(w.errors.data, "\n"), 4);
	assert_int_equal(count_of(w.errors.data, "environment: "), 3);
	assert_non_null(strstr(w.errors.data,
			       "environment: HUMCLI_WEBHOOK_TREADS is not a "
			       "known setting\n"));
	assert_null(strstr(w.errors.data, "hidden"));
	world_free(&w);
}

/* Modes of settings files, with and without a secret. */
static void test_private(void **state)
{
	static const char secret[] = "HUMCLI_WEBHOOK_SECRET=whsec_x\n";
#define DATABASE "HUMCLI_WEBHOOK_DATABASE="
	static const struct {
		int line;
		const char *text;
		mode_t mode;
		const char *fix; /* NULL: valid */
	} cases[] = {
		{ __LINE__, "HUMCLI_WEBHOOK_THREADS=5\n", 0666, NULL },
		{ __LINE__, secret, 0600, NULL },
		{ __LINE__, secret, 0400, NULL },
		{ __LINE__, secret, 0640, NULL },
		{ __LINE__, secret, 0644, "chmod 0640 " },
		{ __LINE__, secret, 0604, "chmod 0600 " },
		{ __LINE__, secret, 0602, "chmod 0600 " },
		{ __LINE__, secret, 0660, "chmod 0640 " },
		{ __LINE__, secret, 0620, "chmod 0600 " },
		{ __LINE__, secret, 0666, "chmod 0640 " },
		{ __LINE__, secret, 0755, "chmod 0750 " },
		{ __LINE__, "#HUMCLI_WEBHOOK_SECRET=x\n", 0644, NULL },
		{ __LINE__, "HUMCLI_WEBHOOK_SECRET_FILE=/x\n", 0644, NULL },
		{ __LINE__, DATABASE "dbname=x user=y\n", 0644, NULL },
		{ __LINE__, DATABASE "dbname=x passfile=/y\n", 0644, NULL },
		{ __LINE__, DATABASE "password=y dbname=x\n", 0644, "chmod" },
		{ __LINE__, DATABASE "dbname=x password = y\n", 0644, "chmod" },
		{ __LINE__, DATABASE "sslpassword='y'\n", 0644, "chmod" },
		{ __LINE__, DATABASE "postgresql://u@h/d\n", 0644, NULL },
		{ __LINE__, DATABASE "postgresql://h:5432/d\n", 0644, NULL },
		{ __LINE__, DATABASE "postgresql://u@h:5432/d\n", 0644, NULL },
		{ __LINE__, DATABASE "postgresql://u:p@h/d\n", 0644, "chmod" },
		{ __LINE__, DATABASE "postgres://u:p@/d\n", 0644, "chmod" },
		{ __LINE__, DATABASE "postgresql:///d?host=/x&password=p\n",
		  0644, "chmod" },
	};
	const struct scratch *s = *state;

	if (s->tmpfs)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world w;

		scratch_write(s, "etc/humcli-webhook.conf", cases[i].mode,
			      cases[i].text);
		world_make(&w, s);
		world_load(&w);
		if (w.good != !cases[i].fix ||
		    count_of(w.errors.data, "\n") != !w.good ||
		    (cases[i].fix && !strstr(w.errors.data, cases[i].fix)))
			fail_msg("line %d: %d, '%s'", cases[i].line, w.good,
				 w.errors.data);
		world_free(&w);
		scratch_unlink(s, "etc/humcli-webhook.conf");
	}
}

/* In a protected place a mode is only a warning. */
static void test_guarded(void **state)
{
	static const char secret[] = "HUMCLI_WEBHOOK_SECRET=whsec_x\n";
	const struct scratch *s = *state;
	struct scratch memory = { 0 };
	size_t warnings = s->tmpfs ? 2 : 1;
	char *log = scratch_path(s, "log");
	char *text, *line;
	struct world w;

	scratch_mkdir(s, "credentials", 0755);
	scratch_write(s, "credentials/x", 0644, secret);
	assert_true(log_open(log, LEVEL_INFO));
	world_make(&w, s);
	world_set(&w, "CREDENTIALS_DIRECTORY=@/credentials");
	world_set(&w, "HUMCLI_WEBHOOK_CONFIG=@/credentials/../credentials/x");
	world_load(&w);
	assert_string_equal(w.errors.data, "");
	world_free(&w);
	/* A file beside the folder is not in it. */
	scratch_write(s, "credentials.conf", 0644, secret);
	world_make(&w, s);
	world_set(&w, "CREDENTIALS_DIRECTORY=@/credentials");
	world_set(&w, "HUMCLI_WEBHOOK_CONFIG=@/credentials.conf");
	world_load(&w);
	assert_int_equal(w.good, s->tmpfs);
	world_free(&w);

	if (scratch_make_in_memory(&memory)) {
		scratch_write(&memory, "x", 0644, secret);
		line = xasprintf("HUMCLI_WEBHOOK_CONFIG=%s/x", memory.path);
		world_make(&w, s);
		world_set(&w, line);
		world_load(&w);
		assert_string_equal(w.errors.data, "");
		world_free(&w);
		free(line);
		scratch_remove(&memory);
		warnings++;
	}
	assert_true(log_open("stderr", LEVEL_INFO));
	text = scratch_read(s, "log");
	assert_int_equal(count_of(text, "level=warning"), warnings);
	assert_non_null(strstr(text, "others can read it; fix: chmod "
				     "0640 "));
	free(text);
	free(log);
}

static void test_quotes_are_warned_of(void **state)
{
	const struct scratch *s = *state;
	char *log = scratch_path(s, "log"), *text;
	struct world w;

	assert_true(log_open(log, LEVEL_INFO));
	world_make(&w, s);
	world_set(&w, "HUMCLI_WEBHOOK_SECRET=\"hidden\"");
	world_load(&w);
	assert_true(w.good);
	expect(__LINE__, &w, "SECRET", "\"hidden\"");
	world_free(&w);
	assert_true(log_open("stderr", LEVEL_INFO));
	text = scratch_read(s, "log");
	assert_int_equal(count_of(text, "quotes around HUMCLI_WEBHOOK_SECRET"),
			 1);
	assert_null(strstr(text, "hidden"));
	free(text);
	free(log);
}

static void test_own_places(void **state)
{
	struct settings_sources places = settings_sources();

	(void)state;
	assert_ptr_equal(places.environment, environ);
	assert_string_equal(places.sysconfdir, SYSCONFDIR);
	assert_string_equal(places.localstatedir, LOCALSTATEDIR);
	if (places.home)
		assert_int_equal(places.home[0], '/');
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, make_scratch, remove_scratch)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_values),
		TEST(test_lines),
		TEST(test_odd_files),
		TEST(test_search),
		TEST(test_foreign_system_file),
		TEST(test_places),
		TEST(test_no_home),
		TEST(test_environment),
		TEST(test_hidden_home),
		TEST(test_injected),
		TEST(test_fault_log),
		TEST(test_home_variable),
		TEST(test_private),
		TEST(test_guarded),
		TEST(test_quotes_are_warned_of),
		cmocka_unit_test(test_own_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
