"""Forwards a TCP port on loopback to PostgreSQL's unix socket, which can be
reached from any network namespace. This is a program: tcp_relay.py PORT SOCKET.
tcp_relay.py - SOCKET accepts from its standard input, a listening socket."""

import asyncio
import socket
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(port, path):
    async def join(reader, writer):
        try:
            there, back = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, back), pump(there, writer))

    if port == "-":
        server = await asyncio.start_server(join, sock=socket.socket(fileno=0))
    else:
        server = await asyncio.start_server(join, "127.0.0.1", int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
