#!/bin/sh
# Installs what is missing of the named lists, and nothing else:
#
#   install.sh build [test] [bench]
#
# Starts no service and leaves none running or enabled.  Quick when nothing is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
nghttp2_wanted=1.52.0-1+deb12u3         # older ones abort under CVE-2026-27135

fail() {
	echo "deps: $*" >&2
	exit 1
}

[ $# -gt 0 ] || fail "which lists? build, test, bench"
command -v dpkg-query >/dev/null 2>&1 ||
	fail "this is no Debian: install what packaging/deps/*.txt names by hand"

wanted=
for list; do
	[ -r "$here/$list.txt" ] || fail "no list $here/$list.txt"
	wanted="$wanted $(sed -e 's/#.*//' "$here/$list.txt" | tr '\n' ' ')"
done

# shellcheck disable=SC2086
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' \
	$wanted libnghttp2-14 2>/dev/null | sed -n 's/^installed //p') || true
names=$(echo "$installed" | cut -d' ' -f1)
missing=
for package in $wanted; do
	echo "$names" | grep -qxF "$package" && continue
	# nginx itself may be there in another flavour
	[ "$package" = nginx-light ] && [ -x /usr/sbin/nginx ] && continue
	missing="$missing $package"
done

old=$(echo "$installed" | sed -n 's/^libnghttp2-14 //p' | head -n 1)
upgrade=
if [ -z "$old" ] || dpkg --compare-versions "$old" lt "$nghttp2_wanted"; then
	upgrade=libnghttp2-14
fi

[ -n "$missing$upgrade" ] || exit 0
# only the library is old: an upgrade is tried, its absence from the mirrors is no failure

as_root=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 ||
		fail "missing:$missing $upgrade; run as root: apt-get install$missing $upgrade"
	as_root=sudo
fi
echo "deps: installing$missing${upgrade:+ $upgrade}"

# Debian starts services when their packages are installed; policy-rc.d says no.
policy=/usr/sbin/policy-rc.d
ours=
restore() {
	[ -z "$ours" ] || $as_root rm -f "$policy"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e "$policy" ]; then
	ours=1
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
fi

units() {
	ls /lib/systemd/system/*.service /usr/lib/systemd/system/*.service 2>/dev/null | sed 's|.*/||' |
		sort -u || true
}
before=$(units)

apt() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -qq \
		-o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@"
}
log=$(mktemp)
trap 'restore; rm -f "$log"' EXIT
run() {
	if ! "$@" >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		return 1
	fi
}
run apt update || fail "apt-get update failed"
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086
	run apt --no-install-recommends install $missing || fail "apt-get install failed"
fi
if [ -n "$upgrade" ]; then
	run apt --no-install-recommends install libnghttp2-14 || fail "apt-get install failed"
	now=$(dpkg-query -W -f '${Version}' libnghttp2-14)
	dpkg --compare-versions "$now" ge "$nghttp2_wanted" ||
		echo "deps: libnghttp2-14 $now is older than $nghttp2_wanted: have the security archive in" \
			"sources.list before production (CVE-2026-27135)" >&2
fi

# what came new is not started at the next boot either
if command -v systemctl >/dev/null 2>&1; then
	for unit in $(units); do
		echo "$before" | grep -qxF "$unit" && continue
		case $unit in
		nginx.service | haproxy.service | h2o.service | nghttpx.service)
			$as_root systemctl disable --now "$unit" >/dev/null 2>&1 || true
			;;
		esac
	done
fi
