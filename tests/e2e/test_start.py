"""Starting: the checks before it, the errors, the listeners."""
import os
import re
import subprocess

from harness import DEADLINE, H1, TEAL, Teal, can_connect, config_text, free_port

SERVICE = {"name": "web", "hosts": ["*"], "blue": {"backends": ["127.0.0.1:1"]}}


def run(*args):
    return subprocess.run(
        [str(TEAL), *map(str, args)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def write(tmp_path, text):
    file = tmp_path / "teal.conf"
    file.write_text(text)
    return file


def good(tmp_path, **more):
    config = {
        "listen": [{"address": f"127.0.0.1:{free_port()}"}],
        "services": [SERVICE],
        "state": {"directory": str(tmp_path)},
        **more,
    }
    return write(tmp_path, config_text(config))


def test_version():
    r = run("-V")
    assert r.returncode == 0
    for word in ("teal", "nghttp2", "OpenSSL", "libevent"):
        assert word.lower() in r.stdout.lower()


def test_check_passes(tmp_path):
    r = run("-t", "-c", good(tmp_path))
    assert r.returncode == 0, r.stderr


def test_check_starts_nothing(tmp_path):
    socket_path = tmp_path / "admin.sock"
    run("-t", "-c", good(tmp_path, admin={"socket": str(socket_path)}))
    assert not socket_path.exists()


def test_dump_is_a_configuration(tmp_path):
    first = run("-T", "-c", good(tmp_path))
    assert first.returncode == 0, first.stderr
    for key in ("listen", "services", "timeouts", "limits", "max_in_flight", "websocket_idle"):
        assert key in first.stdout
    again = run("-T", "-c", write(tmp_path, first.stdout))
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


def test_all_errors_at_once_with_file_and_line(tmp_path):
    file = write(
        tmp_path,
        'listen = ( { address = "127.0.0.1:99999"; } );\n'
        'services = ( { name = "web";\n'
        '  hosts = [ "*" ];\n'
        '  blue = { backends = [ "127.0.0.1:1" ]; max_in_fligth = 3; };\n'
        '  retries = "two"; } );\n'
        'timeouts = { header = "soon"; };\n',
    )
    r = run("-t", "-c", file)
    assert r.returncode == 1
    for line in (1, 4, 5, 6):
        assert re.search(rf"^{re.escape(str(file))}:{line}: ", r.stderr, re.M), (line, r.stderr)
    assert "max_in_flight" in r.stderr  # the nearest known key


def test_syntax_error_names_the_line(tmp_path):
    file = write(tmp_path, "listen = (\n  { address = ; } );\n")
    r = run("-t", "-c", file)
    assert r.returncode == 1
    assert f"{file}:2: " in r.stderr


def test_bad_configuration_does_not_start(tmp_path):
    r = run("-c", write(tmp_path, "workers = -3;\n"))
    assert r.returncode == 1
    assert f"{tmp_path}/teal.conf:" in r.stderr


def test_missing_file():
    r = run("-c", "/nonexistent/teal.conf")
    assert r.returncode == 1
    assert "/nonexistent/teal.conf" in r.stderr


def test_wrong_usage():
    assert run("--frobnicate").returncode == 2


def test_missing_certificate_is_an_error(tmp_path):
    config = {
        "listen": [
            {
                "address": f"127.0.0.1:{free_port()}",
                "tls": {"certificates": [{"chain": "none.pem", "key": "none.key"}]},
            }
        ],
        "services": [SERVICE],
        "state": {"directory": str(tmp_path)},
    }
    r = run("-t", "-c", write(tmp_path, config_text(config)))
    assert r.returncode == 1
    assert "none.pem" in r.stderr


def test_key_of_another_certificate_is_an_error(tmp_path, certificates):
    pair = {"chain": certificates.pair("a")["chain"], "key": certificates.pair("b")["key"]}
    config = {
        "listen": [{"address": f"127.0.0.1:{free_port()}", "tls": {"certificates": [pair]}}],
        "services": [SERVICE],
        "state": {"directory": str(tmp_path)},
    }
    r = run("-t", "-c", write(tmp_path, config_text(config)))
    assert r.returncode == 1
    assert "b.key" in r.stderr


def test_several_listeners(make_teal, make_origin):
    origin = make_origin()
    teal = make_teal(
        {
            "listen": [{}, {}, {"address": f"[::1]:{free_port()}"}, {"tls": {}}],
            "services": [{**SERVICE, "blue": {"backends": [origin.address]}}],
        }
    )
    for n in (0, 1):
        assert H1(teal.port(n)).get("/echo").status == 200
    assert H1(teal.port(2), address="::1").get("/echo").status == 200
    assert teal.h1(tls=True).get("/echo").status == 200


def test_a_taken_port_is_a_clear_error(tmp_path, make_origin):
    origin = make_origin()
    config = {
        "listen": [{"address": origin.address}],
        "services": [SERVICE],
        "state": {"directory": str(tmp_path)},
    }
    r = run("-c", write(tmp_path, config_text(config)))
    assert r.returncode == 1
    assert origin.address in r.stderr
    assert can_connect(origin.port)


def test_a_live_admin_socket_is_not_stolen(edge, tmp_path):
    file = good(tmp_path, admin={"socket": edge.admin_socket})
    r = run("-c", file)
    assert r.returncode == 1
    assert edge.admin_socket in r.stderr
    assert edge.admin("GET", "/v1/status")[0] == 200


def test_a_stale_admin_socket_is_replaced(make_edge, make_origin):
    teal = make_edge(make_origin())
    teal.process.kill()
    teal.wait()
    assert os.path.exists(teal.admin_socket)
    teal.start()
    assert teal.get("/").status == 200


def test_relative_names_are_relative_to_the_file(make_origin, certificates):
    teal = Teal({"services": [SERVICE], "log": {"access": "here.log"}}, certificates)
    try:
        teal.get("/")
        teal.stop(clean=False)
        assert (teal.directory / "here.log").exists()
    finally:
        teal.stop()


def test_an_unusable_state_directory_does_not_start(tmp_path):
    """Which color is live is written there: teal does not guess."""
    r = run("-c", good(tmp_path, state={"directory": str(tmp_path / "no" / "such")}))
    assert r.returncode == 1
    assert "state directory" in r.stderr


def test_a_missing_state_directory_is_made(make_edge, make_origin, tmp_path):
    directory = tmp_path / "fresh"
    teal = make_edge(make_origin(), state={"directory": str(directory)})
    assert teal.get("/").status == 200
    assert directory.is_dir() and directory.stat().st_mode & 0o007 == 0


def test_two_do_not_share_a_state_directory(make_edge, make_origin, tmp_path):
    directory = str(tmp_path / "shared")
    make_edge(make_origin(), state={"directory": directory})
    r = run("-c", good(tmp_path, state={"directory": directory}))
    assert r.returncode == 1
    assert "another teal uses it" in r.stderr
