"""A wire between pooler and server that can be cut, frozen and listened in to, or that adds TLS to a plain server."""

import contextlib
import socket
import ssl
import struct
import threading
from types import TracebackType
from typing import Self

from . import messages as m
from .waiting import eventually


class Proxy:
    """Relays from `port` to a server of 127.0.0.1; use in a `with` block.

    `cut_after` is the number of bytes of the server after which each new connection is cut, `cut_in` the same for
    what the server says from now on in any connection (None: never).
    `turns` counts, over all connections, how often the direction of traffic changed to "to the server".
    With `tls` clients are spoken to in TLS, the server in plain.
    """

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.tls = tls
        self.cut_after: int | None = None
        self.cut_in: int | None = None
        self.turns = 0
        self.accepted = 0
        self.sent_by_client = bytearray()
        self._flow = threading.Event()
        self._flow.set()
        self._hung: list[threading.Event] = []
        self._last = ""
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._closing = False
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self.thaw()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def freeze(self) -> None:
        """Keep connections, new ones too, but pass nothing on until `thaw`."""
        self._flow.clear()

    def hang(self) -> None:
        """Pass nothing on in the connections there are, until `thaw`; new ones work."""
        self._flow.clear()
        self._hung.append(self._flow)
        self._flow = threading.Event()
        self._flow.set()

    def thaw(self) -> None:
        """Pass on again."""
        for flow in (self._flow, *self._hung):
            flow.set()

    def cut(self) -> None:
        """End all connections at once."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @property
    def connections(self) -> int:
        """Relayed connections now."""
        return len(self._open) // 2

    def settles(self, count: int) -> None:
        """Wait until there are so many connections."""
        eventually(lambda: self.connections == count, what=f"{count} connections in the proxy")

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._start(self._relay, client)

    def _relay(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                client = self._shake_hands(client, self.tls)
            with client, socket.create_connection(self.target) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open |= {client, server}
                flow = self._flow
                back = threading.Thread(target=self._pass, args=(server, client, "client", flow), daemon=True)
                back.start()
                self._pass(client, server, "server", flow)
                back.join()
                self._open -= {client, server}

    @staticmethod
    def _shake_hands(client: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        first = exactly(client, 8)
        if first != m.SSL_REQUEST:
            raise OSError(f"no SSLRequest but {first!r}")
        client.sendall(b"S")
        return context.wrap_socket(client, server_side=True)

    def _pass(self, source: socket.socket, sink: socket.socket, to: str, flow: threading.Event) -> None:
        left = self.cut_after if to == "client" else None
        try:
            while data := source.recv(65536):
                flow.wait()
                if self._last != to:
                    self._last = to
                    self.turns += to == "server"
                if to == "server":
                    self.sent_by_client += data
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                if to == "client" and self.cut_in is not None:
                    data = data[: self.cut_in]
                    self.cut_in -= len(data)
                sink.sendall(data)
                if left == 0 or (to == "client" and self.cut_in == 0):
                    break
        except OSError:
            pass
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def packet(sock: socket.socket) -> bytes:
    """One packet without a type byte, such as a StartupMessage; empty at the end of the connection."""
    header = exactly(sock, 4)
    return header + exactly(sock, struct.unpack("!i", header)[0] - 4) if len(header) == 4 else b""


def exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, fewer at the end of the connection."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data
