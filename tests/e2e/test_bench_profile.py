"""make profile: what perf and strace print is read right, told right, and one real run of it adds up."""
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from harness import BUILD, ROOT, SANITIZED

sys.path.insert(0, str(ROOT / "bench"))

# by its path: the standard library has a module of that name
_spec = importlib.util.spec_from_file_location("bench_profile", ROOT / "bench" / "profile.py")
profile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(profile)

STAT = """\
# started on Sat Nov 21 10:42:09 2026

2300,,raw_syscalls:sys_enter,28594511,100.00,,
1100,,syscalls:sys_enter_sendto,28635792,100.00,,
1150,,syscalls:sys_enter_recvfrom,28635792,100.00,,
0,,syscalls:sys_enter_close,28635792,100.00,,
<not counted>,,syscalls:sys_enter_futex,0,0.00,,
"""
STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 74.23    0.032899          24      1317           sendto
 14.56    0.006453           4      1316        12 recvfrom
  0.00    0.000000           0         1           close
------ ----------- ----------- --------- --------- ----------------
100.00    0.039352          14      2634        12 total
"""
REPORT = """\
# Samples: 121  of event 'cpu-clock:ppp'
#
#       Period|Shared Object       |Symbol
 2000       |libnghttp2.so.14.24.1|[.] 0x0000000000005c32
 4000       |[kernel.kallsyms]   |[k] tcp_ack
 1000       |teal                |[.] forward_request
 1000       |[nf_tables]         |[k] nft_do_chain
 1500       |libnghttp2.so.14.24.1|[.] 0x0000000000007a10
  500       |libnghttp2.so.14.24.1|[.] nghttp2_session_mem_recv
"""


# --- reading -------------------------------------------------------------------------------------
def test_perf_stat_is_read():
    assert profile.parse_stat(STAT) == {"sendto": 1100, "recvfrom": 1150, "close": 0, "others": 50}


def test_counters_that_were_not_read_at_once_leave_no_negative_rest():
    assert profile.parse_stat("9,,raw_syscalls:sys_enter,1,1,,\n10,,syscalls:sys_enter_read,1,1,,\n") == {"read": 10, "others": 0}


def test_strace_is_read_with_and_without_errors():
    assert profile.parse_strace(STRACE) == {"sendto": 1317, "recvfrom": 1316, "close": 1}


@pytest.mark.parametrize("dso, name", [
    ("[kernel.kallsyms]", "kernel"),
    ("[nf_tables]", "kernel"),
    ("[vdso]", "vdso"),
    ("[unknown]", "unknown"),
    ("libnghttp2.so.14.24.1  ", "libnghttp2"),
    ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "libcrypto"),
    ("/work/build/teal", "teal"),
])
def test_programs_have_short_names(dso, name):
    assert profile.program(dso) == name


def test_perf_report_is_read_and_the_nameless_are_one():
    assert profile.parse_report(REPORT) == [
        (0.4, "kernel", "tcp_ack"),
        (0.35, "libnghttp2", profile.NAMELESS),
        (0.1, "teal", "forward_request"),
        (0.1, "kernel", "nft_do_chain"),
        (0.05, "libnghttp2", "nghttp2_session_mem_recv"),
    ]
    assert profile.parse_report("# nothing\n") == []


# --- telling -------------------------------------------------------------------------------------
def test_calls_are_told_per_request_without_the_seldom_ones():
    text = profile.calls_text({"read": 9, "close": 10, "sendto": 1200, "recvfrom": 2000}, 1000, "perf stat")
    assert text.splitlines()[1:] == ["      2.00  recvfrom", "      1.20  sendto", "      0.01  close", "      3.22  in all"]
    assert "(perf stat;" in text


def test_shares_are_told_in_us_by_program_and_by_function():
    programs, functions = profile.shares_text(profile.parse_report(REPORT), 10.0).split("\n\n")
    assert programs.splitlines()[0].endswith("10.00 us in all")
    assert [line.split() for line in programs.splitlines()[2:]] == [
        ["50.00", "%", "5.000", "kernel"], ["40.00", "%", "4.000", "libnghttp2"], ["10.00", "%", "1.000", "teal"]]
    assert functions.splitlines()[2].split() == ["40.00", "%", "4.000", "kernel", "tcp_ack"]


def test_only_the_heaviest_functions_are_told():
    rows = [(1 / 100, "kernel", f"f{i}") for i in range(100)]
    functions = profile.shares_text(rows, 1.0).split("\n\n")[1].splitlines()
    assert len(functions) == 2 + profile.HEAVIEST and functions[-1].endswith(f"f{profile.HEAVIEST - 1}")


def test_a_missing_kernel_is_told():
    assert "perf_event_paranoid" in profile.shares_text([(1.0, "teal", "main")], 1.0)
    assert "perf_event_paranoid" not in profile.shares_text([(1.0, "kernel", "main")], 1.0)


def test_a_busy_core_is_told():
    figures = {"requests": 1234, "seconds": 2.0, "cpu_us": 9.5, "foreign": 0.02}
    assert profile.load_text("counted", figures) == "counted: 1,234 requests in 2.0 s, 9.50 us of CPU each"
    assert profile.load_text("counted", {**figures, "foreign": 0.25}).endswith("others had 25 % of its core")


# --- choosing ------------------------------------------------------------------------------------
def test_one_case_or_one_point_is_chosen():
    assert profile.one_case("h1-c*")[0] == "h1-clear"
    name, case = profile.one_case("flat-backends:100")
    assert (name, case.backends, case.points) == ("flat-backends-100", 100, ())


@pytest.mark.parametrize("wanted, why", [
    ("h2-*", "one case at a time"),
    ("flat-backends", "has no point"),
    ("flat-backends:7", "choose flat-backends:2"),
    ("grpc:1", "choose grpc$"),
    ("idle-h1", "no load"),
    ("open-loop", "no load"),
    ("nothing", "no such case"),
])
def test_what_cannot_be_profiled_is_told(wanted, why):
    with pytest.raises(ValueError, match=why):
        profile.one_case(wanted)


def run(**environment):
    return subprocess.run([sys.executable, str(ROOT / "bench" / "profile.py")], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "TEAL_BUILD": str(BUILD), "SECONDS": "1", **environment}, timeout=120)


def test_missing_tools_are_named(tmp_path):
    done = run(PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "profile: perf is missing (make bench-deps)\n"


# --- really --------------------------------------------------------------------------------------
def why_not():
    """Why perf cannot look at teal and the kernel here; "": it can."""
    missing = [tool for tool in ("perf", "strace", "taskset", "h2load", "wrk", "openssl") if not shutil.which(tool)]
    if missing:
        return f"{missing[0]} is missing"
    done = subprocess.run(["perf", "record", "-e", "cpu-clock:k", "-o", "/dev/null", "true"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    return "perf may not look at the kernel" if done.returncode else ""


@pytest.mark.skipif(SANITIZED, reason="nothing of teal's own speed")
def test_a_real_run_adds_up():
    why = why_not()
    if why:
        pytest.skip(why)
    done = run(CASE="h1-clear")
    assert done.returncode == 0, done.stderr
    for call in ("sendto", "recvfrom"):  # the request and the answer, each read and written; a read in vain may come on top
        assert 1 <= float(re.search(rf"^ +([\d.]+)  {call}$", done.stdout, re.M)[1]) <= 4, done.stdout
    programs = done.stdout[done.stdout.index("CPU per request by program"):].split("\n\n")[0].splitlines()[2:]
    shares = {line.split()[3]: float(line.split()[0]) for line in programs}
    assert {"kernel", "teal", "libc"} <= shares.keys()
    assert sum(shares.values()) == pytest.approx(100, abs=0.1)
    out = BUILD / "bench" / "profile" / "h1-clear"
    assert (out / "perf.data").stat().st_size > 10000
    assert done.stdout.startswith((out / "report.txt").read_text())
