#!/bin/sh
# Runs the given cmocka programs, a line each, and the sum at the end.
#
#   run-unit.sh build/tests/unit/test_split ...
#
# The output of a failing one is shown whole.  TIMEOUT: seconds for each (120).
set -u

limit=${TIMEOUT:-120}
passed=0
failed=0
programs=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for program; do
	programs=$((programs + 1))
	code=0
	CMOCKA_MESSAGE_OUTPUT=STDOUT timeout -k 5 "$limit" "$program" >"$log" 2>&1 || code=$?
	ok=$(grep -c '^\[       OK \]' "$log")
	bad=$(grep -c '^\[  FAILED  \] [A-Za-z_]' "$log")
	ran=$(grep -c '^\[ RUN      \]' "$log")
	# a crash or a timeout fails the test that ran
	if [ "$code" -ne 0 ] && [ "$ok" -eq "$ran" ] && [ "$bad" -eq 0 ]; then
		bad=1
	elif [ "$code" -ne 0 ]; then
		bad=$((ran - ok))
		[ "$bad" -gt 0 ] || bad=1
	fi
	passed=$((passed + ok))
	if [ "$code" -eq 0 ]; then
		printf '%-40s %3d passed\n' "${program##*/}" "$ok"
		continue
	fi
	failed=$((failed + bad))
	why="exit code $code"
	[ "$code" -ne 124 ] || why="timeout after $limit s"
	printf '%-40s %3d passed, %d FAILED (%s)\n' "${program##*/}" "$ok" "$bad" "$why"
	sed 's/^/    /' "$log"
done

if [ "$programs" -eq 0 ]; then
	echo "no test programs" >&2
	exit 1
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
