#!/bin/bash
# Warnings as errors on gcc and clang, clang-tidy, cppcheck, the format, the layers.
#
# One line per step; what a failing step said is shown.  Two processes at a time.
set -u
cd "$(dirname "$0")/.." || exit 1

jobs=${JOBS:-2}
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() {          # step NAME COMMAND...
	local name=$1 start=$SECONDS
	shift
	if "$@" >"$log" 2>&1; then
		printf 'lint: %-12s ok       %3d s\n' "$name" $((SECONDS - start))
	else
		printf 'lint: %-12s FAILED   %3d s\n' "$name" $((SECONDS - start))
		grep -vE '^(make\[|gcc |clang |[0-9]+ warnings? (generated|treated)|Suppressed |Use -header-filter)' "$log" |
			head -n 200 | sed 's/^/    /'
		failed=1
	fi
}

shopt -s nullglob
plain=(config/*.c health/*.c balancer/*.c)
proxy=(proxy/*/*.c)
tests=(tests/unit/*.c tests/codec/*.c tests/scenario/*.c)
other=(bench/*.c bench/micro/*.c tests/fuzz/*.c)
sources=("${plain[@]}" "${proxy[@]}" bench/origin/*.c bench/client/*.c)
headers=(config/*.h health/*.h balancer/*.h proxy/*/*.h tests/*/*.h bench/*.h bench/*/*.h)

llhttp=$(pkg-config --cflags libllhttp 2>/dev/null || echo -isystem /usr/share/include/llhttp)
read -ra flags <<<"-std=gnu11 -D_GNU_SOURCE -I. -DTEAL_VERSION=\"lint\" $llhttp -Wall -Wextra -Wshadow -Wconversion"

compile() {       # compile CC: all objects, with the warnings of the Makefile as errors
	local objects=()
	for f in "${sources[@]}" "${tests[@]}" bench/*.c bench/micro/*.c; do
		objects+=("build/lint-$1/${f%.c}.o")
	done
	make -s -j"$jobs" WERROR=1 VARIANT="lint-$1" CC="$1" "${objects[@]}"
}

tidy() {
	printf '%s\0' "${sources[@]}" |
		xargs -0 -n 4 -P "$jobs" sh -c '
			flags=$1; shift
			# shellcheck disable=SC2086
			clang-tidy --quiet "$@" -- $flags' sh "${flags[*]}"
}

check_cpp() {
	local build
	build=$(mktemp -d)
	# the list macros must be known, or their uses do not parse
	local queue
	queue=$(printf '#include <sys/queue.h>\n' | gcc -M -x c - | tr ' ' '\n' | grep 'sys/queue.h$')
	cppcheck -j "$jobs" --include="$queue" --quiet --error-exitcode=1 --std=c11 --language=c \
		--enable=warning,performance,portability --inline-suppr --cppcheck-build-dir="$build" \
		--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
		--suppress='*:/usr/*' -D_GNU_SOURCE -DTEAL_VERSION='"lint"' -I. \
		"${sources[@]}"
	local code=$?
	rm -rf "$build"
	return $code
}

format() {
	clang-format --dry-run -Werror "${sources[@]}" "${tests[@]}" "${other[@]}" "${headers[@]}"
}

layers() {
	make -s -j"$jobs" check-layers VARIANT=lint-gcc WERROR=1 CC=gcc
}

step format format
step gcc compile gcc
step clang compile clang
step layers layers
step cppcheck check_cpp
step clang-tidy tidy

if [ $failed -eq 0 ]; then
	echo "lint: clean"
else
	echo "lint: FAILED"
fi
exit $failed
