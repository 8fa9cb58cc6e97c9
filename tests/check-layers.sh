#!/bin/sh
# Proves the arrow: config <- health <- balancer <- proxy, and inside proxy the shelves
# base <- message <- codec <- exchange <- process.
#
#   check-layers.sh BUILD
#
# By the includes of every file, and by what the objects of the three plain folders import (nm -u): no
# socket, thread, clock or foreign library may be among it.
set -u

build=${1:-build}
bad=0
complain() {
	echo "layers: $*" >&2
	bad=1
}

# --- includes --------------------------------------------------------------------------------------
# allowed FOLDER: the folders it may include from
allowed() {
	case $1 in
	config) echo "config" ;;
	health) echo "config health" ;;
	balancer) echo "config health balancer" ;;
	proxy/base) echo "config health balancer proxy/base" ;;
	proxy/message) echo "config health balancer proxy/base proxy/message" ;;
	proxy/codec) echo "config health balancer proxy/base proxy/message proxy/codec" ;;
	proxy/exchange) echo "config health balancer proxy/base proxy/message proxy/codec proxy/exchange" ;;
	proxy/process)
		echo "config health balancer proxy/base proxy/message proxy/codec proxy/exchange proxy/process"
		;;
	proxy/tealctl) echo "config proxy/tealctl" ;;
	esac
}

for folder in config health balancer proxy/base proxy/message proxy/codec proxy/exchange \
	proxy/process proxy/tealctl; do
	for file in "$folder"/*.[ch] "$folder"/*.def; do
		[ -e "$file" ] || continue
		for include in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
			from=${include%/*}
			fits=0
			for may in $(allowed "$folder"); do
				[ "$from" = "$may" ] && fits=1
			done
			[ $fits -eq 1 ] || complain "$file includes $include, which is not below $folder"
		done
	done
done

# foreign headers: who may touch what
foreign() {       # foreign PATTERN "FOLDERS THAT MAY" FOLDER...
	pattern=$1
	shift
	for file in $(grep -lE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($pattern)" "$@" 2>/dev/null); do
		complain "$file includes $(grep -oE "<($pattern)[^>]*>" "$file" | head -n 1)"
	done
}
plain="config/*.[ch] health/*.[ch] balancer/*.[ch]"
# shellcheck disable=SC2086
{
	foreign 'event2/|event\.h|openssl/|nghttp2/|llhttp|jansson|sys/socket|sys/epoll|sys/eventfd|pthread|netdb|poll\.h' \
		$plain
	foreign 'libconfig' health/*.[ch] balancer/*.[ch] proxy/*/*.[ch]
	foreign 'time\.h|sys/time\.h|signal\.h' health/*.[ch] balancer/*.[ch]
	foreign 'nghttp2/|openssl/|event2/|event\.h' proxy/exchange/*.[ch]
	foreign 'nghttp2/|event2/|event\.h' proxy/message/*.[ch]
}

# --- what the objects import -----------------------------------------------------------------------
# libc without I/O on sockets, threads, clocks, processes; math; what compilers and sanitizers add
libc='mem(cpy|move|set|cmp|chr|rchr|mem)|str[a-z0-9]*|str(toul|tol|toull|toll|tod)|__isoc[0-9]*_[a-z]*|v?(sn|as|f)printf|__(v?(sn|as|f)printf|mem[a-z]*|str[a-z]*)_chk|f?puts|putc|fputc|putchar|fwrite|malloc|calloc|aligned_alloc|realloc|reallocarray|free|qsort|bsearch|abort|__assert_fail|__errno_location|__ctype_[a-z_]*|tolower|toupper|is[a-z]+|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|explicit_bzero|__sprintf_chk|std(err|out)|__fdelt_chk|getrandom'
math='(f?abs|ceil|floor|round|lround|llround|sqrt|exp|exp2|log|log2|log10|log1p|expm1|pow|fmin|fmax|ldexp|frexp|modf|isnan|isinf|nan|erfc?|l?gamma)(f|l)?'
builtin='__(asan|ubsan|tsan|sanitizer)_[a-zA-Z0-9_]*|__atomic_[a-z0-9_]*|__sync_[a-z0-9_]*|__llvm_[a-z0-9_]*|__gcov_[a-z0-9_]*|__func__|__interceptor_[a-z]*|__tsan.*'
# config reads files and addresses (inet_pton only converts), and is the one that knows libconfig
files='fopen|fclose|fread|fgets|getline|getc|ungetc|ferror|feof|fflush|fileno|open|open64|close|read|stat|stat64|fstat|fstat64|lstat|access|faccessat|realpath|__realpath_chk|canonicalize_file_name|getcwd|dirname|__xpg_basename|basename|fmemopen|open_memstream|rewind|fseek|ftell|fseeko|inet_pton|inet_ntop|hto[nl][sl]|nto[h][sl]|readlink|__getdelim|getdelim|opendir|readdir|closedir'

check() {         # check FOLDER ALLOWED-REGEX
	objects=$(ls "$build/$1"/*.o 2>/dev/null)
	[ -n "$objects" ] || {
		echo "layers: no objects in $build/$1: built?" >&2
		return
	}
	# shellcheck disable=SC2086
	defined=$(nm --defined-only -g $(for f in $3; do ls "$build/$f"/*.o 2>/dev/null; done) 2>/dev/null |
		awk 'NF == 3 { print $3 }' | sort -u)
	for object in $objects; do
		nm -u "$object" | awk '{ print $NF }' | sed 's/@.*//' | sort -u | while read -r symbol; do
			echo "$symbol" | grep -qxE "$2" && continue
			echo "$defined" | grep -qxF "$symbol" && continue
			echo "$object imports $symbol"
		done
	done
}

found=$(
	check config "$libc|$math|$builtin|$files|config_[a-z0-9_]*" "config"
	check health "$libc|$math|$builtin" "config health"
	check balancer "$libc|$math|$builtin" "config health balancer"
)
if [ -n "$found" ]; then
	echo "$found" | while read -r line; do
		echo "layers: $line" >&2
	done
	bad=1
fi
# config_* above lets libconfig's names pass; health and balancer may only take what config defines

if [ $bad -eq 0 ]; then
	echo "layers: config <- health <- balancer <- proxy holds"
fi
exit $bad
