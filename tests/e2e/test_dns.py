"""Backends by name."""
import subprocess

from harness import DEADLINE, TEAL, config_text, free_port


def test_localhost(make_edge, make_origin):
    origin = make_origin()
    teal = make_edge(f"localhost:{origin.port}")
    assert teal.get("/echo").status == 200
    (backend,) = teal.service()["colors"]["blue"]["backends"]
    assert str(origin.port) in backend["address"]


def test_a_name_nobody_knows(make_edge, make_origin):
    """teal runs; the others answer; alone it is 503."""
    teal = make_edge("name.invalid:80")
    r = teal.get("/x")
    assert r.status == 503
    assert teal.line("/x")["outcome"] in ("resolve-failed", "no-backend")
    well = make_edge(["name.invalid:80", make_origin()])
    assert {well.get("/x").status for _ in range(10)} == {200}


def test_ipv6_literal(make_edge, make_origin):
    teal = make_edge(f"[::1]:{free_port()}")
    assert teal.get("/x").status == 503


def test_malformed_names_are_configuration_errors(tmp_path):
    for bad in ("", "host", "host:", "host:0x50", "host:70000", "a b:80", "[::1:80", "unix:"):
        config = {
            "listen": [{"address": f"127.0.0.1:{free_port()}"}],
            "services": [{"name": "web", "blue": {"backends": [bad]}}],
            "state": {"directory": str(tmp_path)},
        }
        file = tmp_path / "teal.conf"
        file.write_text(config_text(config))
        run = subprocess.run(
            [str(TEAL), "-t", "-c", str(file)], capture_output=True, text=True, timeout=DEADLINE,
            check=False,
        )
        assert run.returncode == 1, bad
        assert f"{file}:" in run.stderr
