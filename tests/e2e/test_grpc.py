"""A real gRPC client and server, with teal between them.  Generic handlers: bytes in, bytes out."""
import queue
from concurrent import futures

import grpc
import pytest

from conftest import service
from harness import Teal, wait_for


class Echo(grpc.GenericRpcHandler):
    """The four kinds of call, and calls that fail."""

    def __init__(self):
        self.cancelled = []
        self.metadata = {}

    def service(self, details):
        self.metadata = dict(details.invocation_metadata)
        kind = details.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Server": grpc.unary_stream_rpc_method_handler(self.server),
            "Client": grpc.stream_unary_rpc_method_handler(self.client),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Hang": grpc.unary_stream_rpc_method_handler(self.hang),
        }.get(kind)

    def unary(self, request, context):
        context.set_trailing_metadata((("x-trailer", "yes"),))
        return request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing of that name: ä")

    def server(self, request, context):
        for n in range(int(request)):
            yield b"%d" % n

    def client(self, requests, context):
        return b"%d" % sum(len(r) for r in requests)

    def both(self, requests, context):
        for request in requests:
            yield request[::-1]

    def hang(self, request, context):
        context.add_callback(lambda: self.cancelled.append(request))
        yield b"begun"
        wait_for(lambda: not context.is_active(), "the call to end")


@pytest.fixture(scope="module")
def server():
    one = grpc.server(futures.ThreadPoolExecutor(16))
    one.echo = Echo()
    one.add_generic_rpc_handlers((one.echo,))
    one.port = one.add_insecure_port("127.0.0.1:0")
    one.start()
    yield one
    one.stop(None).wait()


@pytest.fixture(scope="module")
def grpc_edge(server, certificates):
    teal = Teal(
        {"services": [service(f"127.0.0.1:{server.port}", blue={"protocol": "h2"})]}, certificates
    )
    yield teal
    teal.stop()


@pytest.fixture(params=["plain", "tls"])
def channel(request, grpc_edge, certificates):
    if request.param == "plain":
        one = grpc.insecure_channel(f"127.0.0.1:{grpc_edge.plain}")
    else:
        credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
        names = ("grpc.ssl_target_name_override", "grpc.default_authority")
        options = [(name, "a.test") for name in names]
        one = grpc.secure_channel(f"127.0.0.1:{grpc_edge.tls}", credentials, options)
    yield one
    one.close()


def test_unary(channel):
    call = channel.unary_unary("/test.Echo/Unary")
    reply, rpc = call.with_call(b"hello", timeout=20)
    assert reply == b"hello"
    assert dict(rpc.trailing_metadata())["x-trailer"] == "yes"


def test_many_unary(channel):
    call = channel.unary_unary("/test.Echo/Unary")
    pending = [call.future(b"%d" % n, timeout=20) for n in range(200)]
    assert [p.result() for p in pending] == [b"%d" % n for n in range(200)]


def test_large_messages(channel):
    call = channel.unary_unary("/test.Echo/Unary")
    assert call(b"x" * 3000000, timeout=20) == b"x" * 3000000


def test_server_streaming(channel):
    call = channel.unary_stream("/test.Echo/Server")
    assert list(call(b"500", timeout=20)) == [b"%d" % n for n in range(500)]


def test_client_streaming(channel):
    call = channel.stream_unary("/test.Echo/Client")
    assert call(iter([b"x" * 1000] * 500), timeout=20) == b"500000"


def test_both_streaming_in_lock_step(channel):
    """Each answer is awaited before the next request is sent: nothing may be held back."""
    send = queue.Queue()
    call = channel.stream_stream("/test.Echo/Both")(iter(send.get, None), timeout=30)
    for n in range(50):
        send.put(b"ab%d" % n)
        assert next(call) == (b"ab%d" % n)[::-1]
    send.put(None)
    assert list(call) == []


def test_error_with_message(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/Fail")(b"", timeout=20)
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    assert e.value.details() == "nothing of that name: ä"


def test_unknown_method(channel):
    """A trailers-only answer."""
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/test.Echo/None")(b"", timeout=20)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_deadline(channel):
    with pytest.raises(grpc.RpcError) as e:
        list(channel.unary_stream("/test.Echo/Hang")(b"deadline", timeout=0.3))
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancellation_reaches_the_server(channel, server):
    call = channel.unary_stream("/test.Echo/Hang")(b"cancel", timeout=60)
    assert next(call) == b"begun"
    before = server.echo.cancelled.count(b"cancel")
    call.cancel()
    wait_for(lambda: server.echo.cancelled.count(b"cancel") > before, "the cancellation")


def test_metadata(channel, server):
    call = channel.unary_unary("/test.Echo/Unary")
    call(b"", metadata=(("x-key", "value"), ("x-bin", b"\0\1\2")), timeout=20)
    assert server.echo.metadata["x-key"] == "value"
    assert server.echo.metadata["x-bin"] == b"\0\1\2"


def test_dead_backend_is_unavailable(make_edge):
    teal = make_edge("127.0.0.1:1", more={"blue": {"protocol": "h2"}})
    with grpc.insecure_channel(f"127.0.0.1:{teal.plain}") as channel:
        with pytest.raises(grpc.RpcError) as e:
            channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
    assert e.value.code() == grpc.StatusCode.UNAVAILABLE


def test_failed_calls_are_marked_in_the_log(grpc_edge, channel):
    with pytest.raises(grpc.RpcError):
        channel.unary_unary("/test.Echo/None")(b"", timeout=20)
    assert grpc_edge.line("/test.Echo/None")["outcome"] == "ok"  # UNIMPLEMENTED is no failure
