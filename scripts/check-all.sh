# The additional checks of scripts/check --all, which sources this file.
# shellcheck shell=bash

check_all() {
	# the longest first; gcc's build before them, because it fails the soonest
	side_by_side all_gcc all_release all_other_release all_clang \
		all_sanitizers all_threads all_without_curl all_distcheck \
		all_other_builds all_fuzzers all_cppcheck all_texts
	all_system_tests
	side_by_side all_sanitized all_threaded
	step "no sanitizer had a finding" no_reports || :
	step "the benchmark, its short form" \
		"$work/source/tests/bench/run" --short --output "$work/log" || :
}

all_system_tests() {
	[ -d "$work/stage-gcc" ] || return 0
	in_lanes "system tests, in random order" "$work/stage-gcc" \
		-p tests.random_order tests/system
	system_tests "system tests that run alone" "$work/stage-gcc" \
		-m alone tests/system
}

# other_failures NAME LOG: adds the list at the end of the other Debian's run to
# ours
other_failures() {
	local text found=
	while IFS= read -r text; do
		failure "$1" "$text"
		found=yes
	done < <(sed -n '/^Failed:$/,$ s/^  //p' "$2")
	[ -n "$found" ] || failure "$1" "$(first_error "$2")"
}

all_fuzzers() {
	step "fuzzing, each harness for 20 s" "$work/source/tests/fuzz/run" 20 || :
}

# Runs the demo and the core check on the Debian that this machine is not. The
# tests there count as those here.
all_other_release() {
	local name="the demo and the core check on the other Debian"
	local log=$work/log/other_release started=$SECONDS status=0 passed failed skipped
	"$work/source/tests/other-release" >"$log" 2>&1 </dev/null || status=$?
	if [ "$status" -eq 77 ]; then
		printf 'SKIP  %-52s %4d s   %s\n' "$name" $((SECONDS - started)) \
			"$(tail -n 1 "$log")"
		count 0 0 1
		return
	fi
	read -r passed failed skipped < <(tail -n 1 "$log" |
		sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p') || :
	if [ "$status" -ne 0 ] && [ "${failed:-0}" -eq 0 ]; then
		failed=1
	fi
	if [ "${failed:-0}" -ne 0 ]; then
		tail -n 200 "$log" | sed 's/^/      | /'
		other_failures "$name" "$log"
	fi
	grep '^RERUN ' "$log" || :
	count "${passed:-0}" "${failed:-0}" "${skipped:-0}"
	report "$name" "${passed:-0}" "${failed:-0}" "${skipped:-0}" "$started"
}

# ---- builds

all_gcc() {
	build_gcc || return
	unit_tests "unit tests, gcc" "$work/gcc"
	step "the responder links four libraries" \
		links_only "$work/gcc/src/humcli-webhook.fcgi" \
		libcjson libcrypto libfcgi libpq || :
	step "the command line adds libcurl alone" \
		links_only "$work/gcc/src/humcli-webhook" \
		libcjson libcrypto libcurl libpq || :
	step "both are hardened" hardened "$work/gcc" || :
}

# clang writes the command for each file (-MJ), because clang-tidy needs it
all_clang() {
	step "build: clang, -Werror" build_clang || return
	unit_tests "unit tests, clang" "$work/clang"
	step "both are hardened, clang" hardened "$work/clang" || :
	step "clang-tidy" clang_tidy || :
}

build_clang() {
	# shellcheck disable=SC2016	# a variable of make
	local flags='CFLAGS=-g -O2 -MJ $@.compiled'
	configure_in "$work/clang" --enable-werror CC=clang &&
		make -s -C "$work/clang" -j2 "$flags" &&
		make -s -C "$work/clang" -j2 "$flags" TESTS= check
}

all_without_curl() {
	step "build: --without-curl, only four libraries" build_four || return
	step "it links no libcurl" links_only \
		"$work/four/src/humcli-webhook" libcjson libcrypto libpq || :
}

# This configure finds only a folder with the .pc files of the four libraries
# and of their requirements, so that there is no cmocka and no curl.
build_four() {
	local pc=$work/four-pc
	mkdir "$pc" && add_modules fcgi libcrypto libcjson libpq &&
		PKG_CONFIG_LIBDIR=$pc configure_in "$work/four" \
			--without-curl --enable-werror &&
		make -s -C "$work/four" -j2
}

# add_modules MODULE...: copies their .pc files, and those they require, to $pc
add_modules() {
	local module
	for module; do
		[ ! -e "$pc/$module.pc" ] || continue
		cp "$(pkg-config --variable=pcfiledir "$module")/$module.pc" "$pc/" ||
			return
		# shellcheck disable=SC2046	# one word a module
		add_modules $({
			pkg-config --print-requires "$module"
			pkg-config --print-requires-private "$module"
		} | cut -d ' ' -f 1) || return
	done
}

# links_only PROGRAM LIBRARY...: checks that PROGRAM links exactly these and the
# C library
links_only() {
	local program=$1 found
	shift
	found=$(readelf -d "$program" |
		sed -n 's/.*(NEEDED).*\[\(lib[^.]*\)\.so.*/\1/p' |
		grep -v -x -e libc -e libpthread | sort | tr '\n' ' ')
	echo "found: $found"
	[ "$found" = "$(printf '%s ' "$@")" ]
}

# hardened BUILD: checks the ELF headers and symbols of both programs
hardened() {
	local program file status=0
	for program in humcli-webhook.fcgi humcli-webhook; do
		file=$1/src/$program
		readelf -hldW "$file" >"$file.elf"
		readelf --dyn-syms -W "$file" >"$file.symbols"
		has "position-independent" 'FLAGS_1.*\bPIE\b' "$file.elf"
		has "RELRO" '^ *GNU_RELRO ' "$file.elf"
		has "all symbols bound at the start" 'FLAGS_1.*\bNOW\b' "$file.elf"
		has "stack not executable" '^ *GNU_STACK .* RW  *0x' "$file.elf"
		has_not "text relocations" TEXTREL "$file.elf"
		has_not "paths to libraries" 'RPATH|RUNPATH' "$file.elf"
		has "stack protector" __stack_chk_fail "$file.symbols"
		has "FORTIFY_SOURCE" '__vsnprintf_chk' "$file.symbols"
	done
	return "$status"
}

has() {
	grep -Eq -- "$2" "$3" || { echo "$program: no $1"; status=1; }
}

has_not() {
	! grep -E -- "$2" "$3" || { echo "$program: $1"; status=1; }
}

all_distcheck() {
	step "make distcheck" distcheck || :
}

distcheck() {
	configure_in "$work/dist" && make -s -C "$work/dist" distcheck
}

all_other_builds() {
	step "builds as few people do" "$work/source/tests/other-builds" || :
	! grep -s SKIPPED "$work/log/builds_as_few"* || count 0 0 1
}

# Builds what would be published, and tries its packages, each in a new Debian
# system, booted if that is possible.
all_release() {
	local release
	step "the release" "$work/source/scripts/release" "$work/release" || :
	[ -e "$work/release/SHA256SUMS" ] || return 0
	for release in bookworm trixie; do
		step "its package for $release: install, upgrade, an event, purge" \
			"$work/source/tests/package/run" "$release" "$work/release" || :
		# count the part that was skipped, if not all was
		! grep -s SKIPPED "$work/log/its_package_for_$release"* || count 0 0 1
	done
	step "the container" "$work/source/tests/container" || :
}

# ---- sanitizers

all_sanitizers() {
	local reports=$work/reports
	# the responder runs as nobody if the tests run as root
	mkdir -m 1777 "$reports"
	step "build: AddressSanitizer, UndefinedBehaviorSanitizer" \
		build sanitizers --enable-werror --enable-sanitizers \
		CFLAGS="-g -O1" || return
	unit_tests "unit tests, sanitizers" "$work/sanitizers"
	step "make install DESTDIR= (sanitizers)" stage sanitizers || :
}

# in_one_piece COMMAND...: prints the output when it ends
in_one_piece() {
	local out status=0
	out=$(mktemp "$work/log/output.XXXXXX")
	"$@" >"$out" 2>&1 || status=$?
	cat "$out"
	return "$status"
}

all_sanitized() {
	in_one_piece sanitized_system_tests
}

all_threaded() {
	in_one_piece threaded_system_tests
}

# Runs a third of the tests, another one each time, because each takes three
# times as long. Findings go to files, because a server's standard error may go
# anywhere.
sanitized_system_tests() {
	[ -d "$work/stage-sanitizers" ] || return 0
	# the slow unwinder, because the fast one fails inside libraries
	local options=log_path=$work/reports/asan
	options+=:detect_stack_use_after_return=1:fast_unwind_on_malloc=0
	ASAN_OPTIONS=$options HUMCLI_SAMPLE=3 \
		UBSAN_OPTIONS=log_path=$work/reports/ubsan:print_stacktrace=1 \
		system_tests "a third of the system tests, sanitizers" \
		"$work/stage-sanitizers" -p tests.random_order \
		tests/system/test_{http,responder,hostile}.py
}

SLOW_THREADS="test_breaker or test_poison_fails_alone or test_killed_at_random"

all_threads() {
	step "build: ThreadSanitizer" build threads --enable-werror CC=clang \
		CFLAGS="-g -O1 -fsanitize=thread" LDFLAGS=-fsanitize=thread || return
	step "make install DESTDIR= (threads)" stage threads || :
}

threaded_system_tests() {
	[ -d "$work/stage-threads" ] || return 0
	# atexit_sleep_ms: ThreadSanitizer would sleep for a second at the end,
	# which has a time limit. Tests that measure throughput are left out,
	# because everything takes ten times as long.
	TSAN_OPTIONS=log_path=$work/reports/tsan:atexit_sleep_ms=0 \
		system_tests "system tests, ThreadSanitizer" "$work/stage-threads" -n 2 \
		-k "not ($SLOW_THREADS)" tests/system/test_{responder,spool}.py
}

# Fails if there is a report of a sanitizer. Prints the first lines, which name
# the place.
no_reports() {
	local report status=0
	for report in "$work"/reports/*; do
		[ -e "$report" ] || continue
		[ "$status" -ne 0 ] || head -n 50 "$report"
		echo "a report: $(sed -n '/ERROR:\|WARNING:\|runtime error/ { p; q }' "$report")"
		status=1
	done
	return "$status"
}

# ---- readers of the source

clang_tidy() {
	local db=$work/clang/compile_commands.json
	{
		echo '['
		find "$work/clang" -name '*.compiled' -exec cat {} + |
			sed '$ s/,$//'
		echo ']'
	} >"$db"
	cd "$work/source" || return
	# one file for each run, because the va_list check of clang-tidy 14 is
	# wrong from the second file on
	find src tests/unit -name '*.c' -print0 |
		xargs -0 -n 1 -P 2 clang-tidy -p "$work/clang" --quiet 2>&1 |
		{ grep -v '^[0-9]* warnings\? generated' || :; }
}

all_cppcheck() {
	step "cppcheck" cppcheck_source || :
}

# cppcheck reads no system headers. Without the macros of sys/queue.h it fails
# on some files.
cppcheck_source() {
	local queue
	queue=$(echo '#include <sys/queue.h>' | gcc -E -M -x c - |
		grep -o '/[^ ]*/sys/queue\.h') || return
	cd "$work/source" || return
	cppcheck --quiet --std=c11 --language=c -j2 \
		--enable=warning,style,performance,portability \
		--inline-suppr --suppressions-list=scripts/cppcheck.txt \
		--error-exitcode=1 -I src --include="$queue" -DHAVE_CURL=1 \
		src tests/unit
}

all_texts() {
	step "clang-format" "$work/source/scripts/format" --check || :
	step "shellcheck" shell_check || :
	step "mandoc -Tlint" mandoc_lint || :
}

shell_check() {
	cd "$work/source" || return
	shellcheck -x scripts/packages scripts/check scripts/demo \
		scripts/release scripts/debian.sh scripts/format scripts/html tests/bench/run scripts/hosting-bundle hosting/start tests/package/run tests/package/first-event \
		tests/container tests/other-release tests/other-builds tests/check-layers tests/check-docs tests/check-manual tests/frozen-sql \
		tests/fuzz/run .ci/run autogen.sh
}

mandoc_lint() {
	cd "$work/source/doc" || return
	mandoc -T lint -W warning ./*.[158]
}
