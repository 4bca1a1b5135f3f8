/*
 * Owns where settings are read from: the environment and one file.
 * settings_load() sets the defaults of numbers, reads the file, then the
 * variables, and last the defaults of paths, which depend on the file. Each
 * source gives NAME=value to apply(); every fault becomes a line in the
 * caller's buffer, so that all are reported at once. Values are never shown,
 * because they may be secrets. Knows no database, no secret file and no
 * program. Runs before any thread starts.
 */
#include "config/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fatal.h"
#include "config/private_file.h"
#include "config/settings_table.h"

#define SERVICE_USER "humcli-webhook"

static const char prefix[] = "HUMCLI_WEBHOOK_";
enum { PREFIX_LENGTH = sizeof(prefix) - 1, FILE_LIMIT = 64 * 1024 };

/* The state of one call of settings_load(). */
struct loader {
	struct settings *s;
	struct buf *errors;
	const char *home_file; /* NULL if there is no home */
	/* of the file, where the key is; 0: nowhere */
	unsigned *lines;
};

/* Removes white space at both ends of text, in place. Returns its start. */
static char *trim(char *text)
{
	static const char space[] = " \t\r\n\v\f";
	size_t length;

	text += strspn(text, space);
	length = strlen(text);
	while (length && strchr(space, text[length - 1]))
		length--;
	text[length] = '\0';
	return text;
}

/*
 * Explains an unknown name. Shows it only if it looks like ours, because a
 * secret pasted into the file may contain a '='.
 */
static void explain_name(struct buf *errors, const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789_";

	if (settings_find_key(name))
		buf_printf(errors, "%s must be written %s%s\n", name, prefix,
			   name);
	else if (strncmp(name, prefix, PREFIX_LENGTH) == 0 &&
		 name[strspn(name, allowed)] == '\0')
		buf_printf(errors, "%s is not a known setting\n", name);
	else
		buf_printf(errors, "not a setting, whose names begin with %s\n",
			   prefix);
}

static bool is_quoted(const char *value)
{
	size_t length = strlen(value);

	return length > 1 && (*value == '"' || *value == '\'') &&
	       value[length - 1] == *value;
}

/*
 * Applies one NAME=value; where names its place in messages. Returns its key,
 * or NULL if the name is unknown.
 */
static const struct settings_key *apply(struct loader *l, const char *where,
					const char *name, const char *value)
{
	const struct settings_key *key = NULL;

	if (strncmp(name, prefix, PREFIX_LENGTH) == 0)
		key = settings_find_key(name + PREFIX_LENGTH);
	if (!key) {
		buf_printf(l->errors, "%s: ", where);
		explain_name(l->errors, name);
		return NULL;
	}
	if (!settings_set_value(l->s, key, value)) {
		buf_printf(l->errors, "%s: %s ", where, name);
		settings_explain_value(l->errors, key);
	} else if (key->type == TYPE_SECRET && is_quoted(value)) {
		log_message(
			LEVEL_WARNING,
			"%s: the quotes around %s count as part of its value; remove them",
			where, name);
	}
	return key;
}

/* Returns true if a conninfo or URI holds a password; false otherwise. */
static bool holds_password(const char *database)
{
	const char *user = strstr(database, "://");
	const char *word = database;

	if (user) {
		size_t length;

		user += 3;
		length = strcspn(user, "@/");
		if (user[length] == '@' && memchr(user, ':', length))
			return true;
	}
	while ((word = strstr(word, "password"))) {
		word += strlen("password");
		if (word[strspn(word, " \t\n\r")] == '=')
			return true;
	}
	return false;
}

/*
 * Applies one line of the file. Returns true if it holds a secret or a
 * password; false otherwise.
 */
static bool parse_line(struct loader *l, const char *path, unsigned number,
		       char *line)
{
	const struct settings_key *key;
	char *name = trim(line), *value, *where;
	bool secret = false;

	if (*name == '\0' || *name == '#')
		return false;
	where = xasprintf("%s:%u", path, number);
	value = strchr(name, '=');
	if (!value) {
		buf_printf(l->errors, "%s: not of the form %sKEY=value\n",
			   where, prefix);
		goto out;
	}
	*value++ = '\0';
	name = trim(name);
	value = trim(value);
	key = apply(l, where, name, value);
	if (!key)
		goto out;
	if (l->lines[key - settings_keys])
		buf_printf(l->errors, "%s: %s is already set in line %u\n",
			   where, name, l->lines[key - settings_keys]);
	l->lines[key - settings_keys] = number;
	secret = (key->type == TYPE_SECRET && *value) ||
		 (key->type == TYPE_TEXT && holds_password(value));
out:
	free(where);
	return secret;
}

static void parse_lines(struct loader *l, const char *path, int fd,
			struct buf *text)
{
	struct buf warnings = { 0 };
	static const char mark[] = "\xef\xbb\xbf";
	size_t at = 0, length;
	bool secret = false;
	char *line;

	/* Some editors begin a file with a byte order mark. */
	if (text->length >= 3 && memcmp(text->data, mark, 3) == 0)
		at = 3;

	for (unsigned number = 1; (line = buf_next_line(text, &at, &length));
	     number++) {
		line[length] = '\0';
		if (strlen(line) != length)
			buf_printf(l->errors, "%s:%u: holds a NUL byte\n", path,
				   number);
		else if (parse_line(l, path, number, line))
			secret = true;
	}
	if (secret &&
	    private_file_check(fd, path, l->s->credentials_dir, l->errors,
			       &warnings) &&
	    warnings.length)
		log_message(LEVEL_WARNING, "%.*s", (int)warnings.length - 1,
			    warnings.data);
	buf_free(&warnings);
}

static void file_error(struct loader *l, const char *path, int error)
{
	buf_printf(l->errors, "%s: %s\n", path, strerror(error));
}

/* Reads the settings file, and closes fd. */
static void parse_file(struct loader *l, const char *path, int fd)
{
	/* All room at once, because growing would leave copies of secrets. */
	enum { ROOM = 2 * FILE_LIMIT };
	struct buf text = { .data = xmalloc(ROOM), .capacity = ROOM };
	struct stat st;

	l->s->file = xstrdup(path);
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
		buf_printf(l->errors, "%s: not a regular file\n", path);
	else if (read_all(fd, FILE_LIMIT, &text))
		parse_lines(l, path, fd, &text);
	else if (errno == EFBIG)
		buf_printf(l->errors, "%s: larger than 64KiB\n", path);
	else
		file_error(l, path, errno);
	buf_wipe(&text);
	close(fd);
}

static int open_file(const char *path, int *error)
{
	/* O_NONBLOCK, because open() would wait for a writer of a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	*error = fd < 0 ? errno : 0;
	return fd;
}

static bool is_missing(int error)
{
	return error == ENOENT || error == ENOTDIR;
}

/* Returns true if it is hidden from us whether the path exists. */
static bool is_hidden(const char *path, int error)
{
	struct stat st;

	return error == EACCES && stat(path, &st) < 0 && errno == EACCES;
}

/* Reads the settings file in the home; if there is none, the system's. */
static void search_file(struct loader *l, const char *system_file)
{
	int fd = -1, error = ENOENT;

	if (l->home_file)
		fd = open_file(l->home_file, &error);
	if (fd >= 0) {
		parse_file(l, l->home_file, fd);
		return;
	}
	if (!is_missing(error) && !is_hidden(l->home_file, error)) {
		file_error(l, l->home_file, error);
		return;
	}
	fd = open_file(system_file, &error);
	if (fd >= 0)
		parse_file(l, system_file, fd);
	else if (!is_missing(error))
		file_error(l, system_file, error);
}

static const char *find_variable(char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; *environment; environment++) {
		const char *entry = *environment;

		if (strncmp(entry, name, length) == 0 && entry[length] == '=')
			return entry + length + 1;
	}
	return NULL;
}

static void find_file(struct loader *l, const struct settings_sources *places)
{
	const char *named =
		find_variable(places->environment, "HUMCLI_WEBHOOK_CONFIG");
	char *system_file;

	if (named && *named) {
		int error, fd = open_file(named, &error);

		if (fd >= 0)
			parse_file(l, named, fd);
		else
			buf_printf(l->errors, "HUMCLI_WEBHOOK_CONFIG: %s: %s\n",
				   named, strerror(error));
		return;
	}
	system_file = xasprintf("%s/humcli-webhook.conf", places->sysconfdir);
	search_file(l, system_file);
	free(system_file);
}

/*
 * Returns true if Kubernetes or Docker adds this variable for a service called
 * humcli-webhook, or for one whose name begins so; false otherwise.
 */
static bool is_injected(const char *name, const char *value)
{
	static const char pattern[] =
		"^HUMCLI_WEBHOOK_([A-Z0-9_]+_)?"
		"(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?="
		"|PORT=(tcp|udp|sctp)://"
		"|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?="
		"|NAME=/|ENV_[A-Za-z0-9_]+=)";
	char *entry = xasprintf("%s=%s", name, value);
	regex_t compiled;
	bool matches;

	if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		fatal("out of memory");
	matches = regexec(&compiled, entry, 0, NULL, 0) == 0;
	regfree(&compiled);
	wipe_text(&entry);
	return matches;
}

static void apply_environment(struct loader *l, char *const *environment)
{
	for (; *environment; environment++) {
		const char *entry = *environment, *equals = strchr(entry, '=');
		char *name, *value;

		if (!equals || strncmp(entry, prefix, PREFIX_LENGTH) != 0)
			continue;
		name = xstrndup(entry, (size_t)(equals - entry));
		value = xstrdup(equals + 1);
		if (strcmp(name, "HUMCLI_WEBHOOK_CONFIG") != 0 &&
		    (settings_find_key(name + PREFIX_LENGTH) ||
		     !is_injected(name, value)))
			apply(l, "environment", name, trim(value));
		free(name);
		wipe_text(&value);
	}
}

static void set_number_defaults(struct settings *s)
{
	for (size_t i = 0; i < settings_key_count; i++) {
		const struct settings_key *key = &settings_keys[i];

		if (!settings_is_text(key->type) &&
		    !settings_set_value(s, key, key->default_text))
			abort(); /* the table is wrong */
	}
}

/* Turns an empty path into NULL: none. */
static void empty_is_none(char **path)
{
	if (*path && **path == '\0')
		wipe_text(path);
}

/*
 * Returns the default of LOG without a settings file in the home. Without any
 * settings file *fault_log is set to the log of the home, if the home has a
 * folder for it, because who set that up looks there.
 */
static char *default_log(const struct settings *s,
			 const struct settings_sources *places,
			 char **fault_log)
{
	struct stat st;
	char *folder;

	if (!s->file && places->home) {
		folder = xasprintf("%s/.humcli-webhook", places->home);
		if (stat(folder, &st) == 0 && S_ISDIR(st.st_mode))
			*fault_log = xasprintf("%s/log", folder);
		free(folder);
	}
	return xstrdup("stderr");
}

/* Sets the defaults that depend on which settings file was read. */
static void set_text_defaults(struct loader *l,
			      const struct settings_sources *places)
{
	struct settings *s = l->s;
	const char *home = NULL;

	if (s->file && l->home_file && strcmp(s->file, l->home_file) == 0)
		home = places->home;
	s->secret_dir_given = s->secret_dir != NULL;
	if (!s->secret_dir && home)
		s->secret_dir = xasprintf("%s/.humcli-webhook/secrets", home);
	else if (!s->secret_dir && s->credentials_dir)
		s->secret_dir = xstrdup(s->credentials_dir);
	empty_is_none(&s->secret_dir);
	empty_is_none(&s->secret_file);
	if (!s->spool && home)
		s->spool = xasprintf("%s/.humcli-webhook/spool", home);
	else if (!s->spool)
		s->spool = xasprintf("%s/spool/humcli-webhook",
				     places->localstatedir);
	if (!s->log && home)
		s->log = xasprintf("%s/.humcli-webhook/log", home);
	else if (!s->log)
		s->log = default_log(s, places, &s->fault_log);
	if (!s->fault_log)
		s->fault_log = xstrdup(s->log);
	if (!s->database)
		s->database = xstrdup("");
	s->key_dir_given = s->key_dir != NULL;
	if (!s->key_dir && home)
		s->key_dir = xasprintf("%s/.humcli-webhook/keys", home);
	empty_is_none(&s->key_dir);
	if (!s->api || !*s->api) {
		free(s->api);
		s->api = xstrdup("https://api.humcli.com/api/v1");
	}
}

struct settings_sources settings_sources(void)
{
	/*
	 * Not $HOME first, because suexec and lighttpd's CGI pass no
	 * variables. The service's user has the system's settings alone.
	 */
	const struct passwd *user = getpwuid(getuid());
	const char *home = user ? user->pw_dir : getenv("HOME");

	if (!home || home[0] != '/' ||
	    (user && strcmp(user->pw_name, SERVICE_USER) == 0))
		home = NULL;

	return (struct settings_sources){
		.environment = environ,
		.sysconfdir = SYSCONFDIR,
		.localstatedir = LOCALSTATEDIR,
		.home = home,
	};
}

bool settings_load(struct settings *s, const struct settings_sources *places,
		   struct buf *errors)
{
	struct loader l = { .s = s,
			    .errors = errors,
			    .lines = xcalloc(settings_key_count,
					     sizeof(*l.lines)) };
	size_t before = errors->length;
	const char *credentials =
		find_variable(places->environment, "CREDENTIALS_DIRECTORY");
	char *home_file = NULL;

	*s = (struct settings){ 0 };
	if (credentials && *credentials == '/')
		s->credentials_dir = xstrdup(credentials);
	if (places->home)
		home_file = xasprintf("%s/.humcli-webhook/humcli-webhook.conf",
				      places->home);
	l.home_file = home_file;
	set_number_defaults(s);
	find_file(&l, places);
	apply_environment(&l, places->environment);
	set_text_defaults(&l, places);
	free(home_file);
	free(l.lines);
	return errors->length == before;
}

void settings_free(struct settings *s)
{
	for (size_t i = 0; i < settings_key_count; i++) {
		if (settings_is_text(settings_keys[i].type))
			wipe_text(settings_field(s, &settings_keys[i]));
	}
	free(s->file);
	free(s->fault_log);
	free(s->credentials_dir);
	*s = (struct settings){ 0 };
}
