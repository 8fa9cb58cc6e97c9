#!/bin/sh
# The demo behind `make run`: a blue and a green backend, teal in front of them.
#
#   TEAL_PORT        https (8443)         TEAL_HTTP_PORT   http, redirects (8080)
#   TEAL_BLUE_PORT   blue backend (9001)  TEAL_GREEN_PORT  green backend (9002)
#   TEAL_BUILD       where teal and tealctl are (build)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=${TEAL_BUILD:-$here/../../build}
build=$(cd "$build" && pwd)
port=${TEAL_PORT:-8443}
http=${TEAL_HTTP_PORT:-8080}
blue=${TEAL_BLUE_PORT:-9001}
green=${TEAL_GREEN_PORT:-9002}
demo=$build/demo
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3)

say() {
	printf '%s\n' "$*"
}

fail() {
	say "demo: $*" >&2
	exit 1
}

# somebody is there already?
for each in "TEAL_PORT $port" "TEAL_HTTP_PORT $http" "TEAL_BLUE_PORT $blue" "TEAL_GREEN_PORT $green"; do
	# shellcheck disable=SC2086
	set -- $each
	"$python" - "$2" <<'END' || fail "port $2 is taken: choose another with $1=PORT make run"
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    s.bind(("127.0.0.1", int(sys.argv[1])))
except (OSError, ValueError, OverflowError):
    sys.exit(1)
END
done

# every demo begins with blue live
rm -rf "$demo/state"
mkdir -p "$demo/state"
if [ ! -s "$demo/localhost.pem" ] || [ ! -s "$demo/localhost.key" ] ||
	! openssl x509 -in "$demo/localhost.pem" -noout -checkend 86400 >/dev/null 2>&1; then
	(umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
		-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 \
		-keyout "$demo/localhost.key" -out "$demo/localhost.pem" >/dev/null 2>&1) ||
		fail "openssl could not make a certificate"
fi

cat >"$demo/teal.conf" <<END
# Written by packaging/demo/run.sh at every start.
listen = (
  { address = "127.0.0.1:$port";
    tls = { certificates = ( { chain = "localhost.pem"; key = "localhost.key"; } ); }; },
  { address = "127.0.0.1:$http"; redirect_to_https = true; redirect_port = $port; } );

services = (
  { name = "demo"; hosts = [ "*" ];
    blue  = { backends = [ "127.0.0.1:$blue" ]; };
    green = { backends = [ "127.0.0.1:$green" ]; };
    split = { by = "request"; }; } );

admin = { socket = "admin.sock"; };
state = { directory = "state"; };
limits = { connections = 400; };
log   = { level = "info"; access = "access.log"; format = "json"; };
END

teal=
backend_blue=
backend_green=
stop() {
	trap - INT TERM HUP EXIT
	say ""
	say "stopping"
	for pid in $teal $backend_blue $backend_green; do
		kill -TERM "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
}
trap 'stop; exit 0' INT TERM HUP
trap 'stop' EXIT

"$python" "$here/backend.py" "$blue" blue v1 &
backend_blue=$!
"$python" "$here/backend.py" "$green" green v2 &
backend_green=$!

# Waits until the port answers ($1) or the process is gone ($2).
await() {
	tries=0
	while ! curl -sk --max-time 2 -o /dev/null "$1" 2>/dev/null; do
		kill -0 "$2" 2>/dev/null || return 1
		tries=$((tries + 1))
		[ $tries -lt 100 ] || return 1
		sleep 0.1
	done
}
await "http://127.0.0.1:$blue/health/liveness" $backend_blue || fail "the blue backend did not start"
await "http://127.0.0.1:$green/health/liveness" $backend_green || fail "the green backend did not start"

"$build/teal" -c "$demo/teal.conf" &
teal=$!
await "https://127.0.0.1:$port/" $teal || fail "teal did not start; its words are above"

ctl=$build/tealctl
socket=$demo/admin.sock
case $PWD/ in
"${build%/build}"/) ctl=build/tealctl socket=build/demo/admin.sock ;;
esac
cat <<END

teal is up.
  https://localhost:$port/      blue v1 answers; green v2 waits at weight 0
  http://localhost:$http/      redirects there

Now, in another terminal:
  curl -k https://localhost:$port/
  export TEAL_SOCKET=$socket
  $ctl status
  $ctl weight 25                 a quarter of the requests to green
  for i in \$(seq 20); do curl -sk https://localhost:$port/; done | sort | uniq -c
  $ctl flip green                all of them, and green is live
  $ctl maintenance on            503 for everybody
  $ctl maintenance off
  tail -f ${socket%/*}/access.log

^C stops everything.
END
code=0
wait "$teal" || code=$?
teal=
# ^C reaches teal and this shell at once; whoever is first, it was asked for
[ $code -eq 0 ] && exit 0
fail "teal ended with code $code"
