# Makes a small Debian of a release in a folder, and runs commands in it;
# sourced by bash after scripts/lib.sh. As root.
#
# What is downloaded is kept in /var/cache/humcli-webhook for a week, if that
# folder can be made.
# shellcheck shell=bash

DEBIAN_CACHE=/var/cache/humcli-webhook
DEBIAN_CACHE_DAYS=7

# this_release: the code name of this machine's Debian
this_release() {
	# shellcheck source=/dev/null
	(. /etc/os-release && echo "${VERSION_CODENAME-}")
}

# other_release: Debian 13 on a Debian 12, Debian 12 elsewhere
other_release() {
	case $(this_release) in
	bookworm) echo trixie ;;
	*) echo bookworm ;;
	esac
}

# own_mounts SCRIPT [ARGUMENTS]: runs the script once more, with mounts of its own
# that end with it; returns at once in that second run. Exits 77 and says why
# where that is not possible.
own_mounts() {
	[ "${HUMCLI_OWN_MOUNTS-}" != "$1" ] || return 0
	[ "$(id -u)" -eq 0 ] || can_not "it takes root"
	unshare --mount --net --pid --fork true 2>/dev/null ||
		can_not "there are no namespaces for mounts, network and processes here"
	HUMCLI_OWN_MOUNTS=$1 exec unshare --mount "$@"
}

can_not() {
	echo "${0##*/}: skipped: $*" >&2
	exit 77
}

# make_debian RELEASE ROOT [PACKAGES]: the smallest Debian with these packages,
# names with commas between. Leaves it ready for in_debian().
make_debian() {
	local release=$1 root=$2 packages=ca-certificates${3:+,$3} kept mirror
	mkdir -p "$root"
	if ! mknod "$root/null" c 1 3 || ! echo 2>/dev/null >"$root/null"; then
		can_not "no device can be made in $root"
	fi
	rm "$root/null"
	kept=$DEBIAN_CACHE/$release-${packages//,/-}.tar
	mkdir -p "$DEBIAN_CACHE/$release" 2>/dev/null || kept=
	if [ -n "$kept" ] &&
		[ -n "$(find "$kept" -mtime "-$DEBIAN_CACHE_DAYS" 2>/dev/null)" ]; then
		tar -C "$root" --numeric-owner -xpf "$kept"
	else
		# shellcheck disable=SC2016	# apt-get's own
		mirror=$(apt-get indextargets --format '$(SITE)' \
			'Created-By: Packages' | head -n 1)
		debootstrap --variant=minbase --include="$packages" "$release" \
			"$root" "$mirror" >"$root.log" 2>&1 || {
			tail -n 20 "$root.log"
			can_not "debootstrap can't make $release"
		}
		# what debootstrap has mounted, had it to end there
		umount -R "$root/proc" "$root/sys" 2>/dev/null || :
		[ -z "$kept" ] || {
			tar -C "$root" --numeric-owner -cpf "$kept.$$" . &&
				mv "$kept.$$" "$kept"
		}
	fi
	rm -rf "$root/etc/apt/apt.conf.d"
	cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
	rm -f "$root/etc/apt/apt.conf.d/docker-clean"
	echo 'APT::Keep-Downloaded-Packages "true";' >"$root/etc/apt/apt.conf.d/99keep"
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	# a crash of this machine would end the test as well
	echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	find "$DEBIAN_CACHE/$release" -name '*.deb' -mtime "-$DEBIAN_CACHE_DAYS" \
		-exec cp -t "$root/var/cache/apt/archives" {} + 2>/dev/null || :
	in_debian "$root" apt-get update -q >"$root.log" 2>&1 || {
		tail -n 20 "$root.log"
		return 1
	}
}

# keep_downloads RELEASE ROOT: for the next make_debian()
keep_downloads() {
	[ ! -d "$DEBIAN_CACHE/$1" ] ||
		cp -n -t "$DEBIAN_CACHE/$1" "$2"/var/cache/apt/archives/*.deb \
			2>/dev/null || :
}

# in_debian ROOT COMMAND...
in_debian() {
	local root=$1
	shift
	chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive HOME=/root "$@"
}

# mount_debian ROOT: what most programs expect; gone with our namespace
mount_debian() {
	mount --bind "$1" "$1"
	mount -t proc proc "$1/proc"
	mount -t sysfs sysfs "$1/sys"
	mount --rbind /dev "$1/dev"
	mount -t tmpfs tmpfs "$1/run"
}
