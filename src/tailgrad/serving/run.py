"""Load a policy and rewards, and serve until told to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType
from typing import Final

import uvicorn

from tailgrad.serving.app import make_app
from tailgrad.serving.call import BestOfN
from tailgrad.serving.config import ServeConfig
from tailgrad.serving.connections import Connection, most_connections
from tailgrad.serving.service import Service

KEEP_ALIVE: Final = 30
"""Seconds after which a connection is closed on which nothing is asked."""


def serve(config: ServeConfig) -> None:
    """Serve the best of N until SIGINT or SIGTERM.

    Args:
        config: What to serve, and where.

    Raises:
        FileNotFoundError: A model does not exist.
        ValueError: A model cannot be loaded, the address is taken, or others could reach it without a key.
        ServerDownError: There is no server at an address.
    """
    with listening_at(config.host, config.port) as listening:
        service = Service(config, BestOfN.of(config.sampling()))
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
        say = service.journal.write
        listening.listen()  # from here on who connects is answered
        if service.about_prior is not None:
            say("prior", **service.about_prior)
        say("serving", model=config.name, n=config.n, reward=service.best_of_n.reward_name, url=url)
        asyncio.run(Server(service).serve(sockets=[listening]))
        say("ended")


class Server(uvicorn.Server):
    """uvicorn, which on a signal first tells the service that it ends.

    Args:
        service: What is served.
    """

    def __init__(self, service: Service) -> None:
        config = service.config
        connections, backlog = most_connections(service.gate.places, config.concurrency)
        options = uvicorn.Config(
            make_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            http=Connection,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(config.shutdown_seconds) + 5,
            limit_concurrency=connections,
            backlog=backlog,
        )
        super().__init__(options)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second SIGINT ends at once."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self.end()

    def end(self) -> None:
        """Begin to end, from any thread: who waits is sent away, who is worked on is given some time."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._service.end)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; see uvicorn."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)


def listening_at(host: str, port: int) -> socket.socket:
    """Take an address, before anything is loaded.

    Args:
        host: The address.
        port: The port; 0 is any that is free.

    Returns:
        A socket that is bound to it.

    Raises:
        ValueError: It is taken, or none of this machine's.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ValueError(f"cannot listen at {host}:{port} ({error.strerror}): give another --port or --host.") from None
    return listening
