/*
 * The receiver's user of an installation for the whole system: finds it, or
 * creates it by systemd-sysusers, or by useradd on a machine without systemd.
 */
#include "cli/init/init.h"

#include "base/macros.h"
#include "cli/program.h"

#include <pwd.h>
#include <string.h>

static bool find(struct init *i)
{
	const struct passwd *user = getpwnam(i->user);

	if (!user)
		return false;
	i->uid = user->pw_uid;
	i->gid = user->pw_gid;
	return true;
}

static bool create(struct init *i)
{
	char sysusers[] = "systemd-sysusers", useradd[] = "useradd",
	     system[] = "--system", group[] = "--user-group",
	     home[] = "--home-dir", folder[] = "/var/lib/humcli-webhook",
	     shell[] = "--shell", nologin[] = "/usr/sbin/nologin",
	     name[] = INIT_USER;
	char *const by_sysusers[] = { sysusers, NULL };
	char *const by_useradd[] = { useradd, system,  group, home, folder,
				     shell,   nologin, name,  NULL };

	return (cli_run_program(by_sysusers) && find(i)) ||
	       (cli_run_program(by_useradd) && find(i));
}

int init_ensure_user(struct init *i)
{
	if (find(i)) {
		init_report(i, true, "the system user %s", i->user);
		return EX_OK;
	}
	if (strcmp(i->user, INIT_USER) != 0) {
		cli_error(i->verb, "can't find the user %s of --user", i->user);
		return EX_NOUSER;
	}
	init_report(i, false, "the system user %s", i->user);
	if (i->dry_run || create(i))
		return EX_OK;
	cli_error(i->verb,
		  "can't create the user %s by systemd-sysusers or useradd; "
		  "create it, then run init again",
		  i->user);
	return EX_OSFILE;
}
