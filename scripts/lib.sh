# Common functions of scripts/check, scripts/demo and others; sourced by bash.
# shellcheck shell=bash

# Removes the caller's settings, databases and language from the environment.
clean_environment() {
	# shellcheck disable=SC2086	# names, one word each
	unset CDPATH ${!HUMCLI_WEBHOOK_@} ${!PG@}
	export LC_ALL=C.UTF-8
	# An ordinary user of Debian has no sbin there, and lighttpd is in it.
	export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
}

# The scripts work on a copy in a temporary folder and do not change the
# checkout. The checkout may be configured in place, belong to another user, or
# be unreadable for the user of the servers.
make_work_dir() {
	umask 022
	work=$(mktemp -d "${TMPDIR:-/tmp}/humcli-$1.XXXXXX")
	chmod 755 "$work"
}

copy_source() {
	mkdir "$work/source"
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -z --cached --others --exclude-standard |
			while IFS= read -r -d '' file; do
				# a deleted file may still be in the index
				[ ! -e "$file" ] || printf '%s\0' "$file"
			done | tar --null -T - -cf -
	else
		tar --exclude-vcs -cf - .
	fi | tar -C "$work/source" --no-same-owner -xf -
	chmod -R u=rwX,go=rX "$work/source"
	[ ! -e "$work/source/config.status" ] ||
		make -s -C "$work/source" distclean
}

# The time of the newest entry in debian/changelog, in seconds. All time stamps
# of a release are that time.
source_date_epoch() {
	date -d "$(sed -n 's/^ -- .*>  //p' debian/changelog | head -n 1)" +%s
}

# tar_options EPOCH: a value of TAR_OPTIONS with which the same files give the
# same archive
tar_options() {
	echo "--sort=name --mtime=@$1 --owner=0 --group=0 --numeric-owner" \
		"--mode=u=rwX,go=rX --format=gnu"
}

# configure_in DIR [configure options]: makes DIR and runs configure in it
configure_in() {
	local dir=$1
	shift
	mkdir -p "$dir"
	(cd "$dir" && "$work/source/configure" -q "$@")
}

# stop_process SIGNAL PID: stops a child process of this script, and kills it
# after 10 s.
stop_process() {
	local i
	kill -s "$1" "$2" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		kill -0 "$2" 2>/dev/null || break
		sleep 0.1
	done
	kill -s KILL "$2" 2>/dev/null || :
	wait "$2" 2>/dev/null || :
}
