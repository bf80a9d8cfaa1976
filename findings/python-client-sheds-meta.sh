#!/usr/bin/env bash
# The Python client of Supabase Realtime hands on the `meta` of a broadcast without the members that it does not know.
#
# Software: realtime 2.34.1 (PyPI); realtime-js 2.119.1 hands it on whole.
# Guess:    A callback gets the message as it came, as in JavaScript; a client that does not look at `meta` keeps it.
# Seen:     The message is parsed into a model that has `id` and `replayed`, and written out again. Other members of
#           `meta`, and of the message beside event, payload and meta, are gone; so is `type`. No log line says so.
source "$(dirname "$0")/lib/setup.sh"
pip_install realtime==2.34.1
venv/bin/python - <<'PY' | seen_is '{"event": "e", "payload": {"n": 1}, "meta": {"replayed": true, "id": "00000000-0000-4000-8000-000000000001"}}'
import asyncio, json
import websockets
from realtime import AsyncRealtimeClient

META = {"id": "00000000-0000-4000-8000-000000000001", "replayed": True, "sender": "ann", "position": 7}

async def serve(socket):
    async for text in socket:
        message = json.loads(text)
        reply = {"status": "ok", "response": {"postgres_changes": []}}
        await socket.send(json.dumps({**message, "event": "phx_reply", "payload": reply}))
        if message["event"] == "phx_join":
            body = {"type": "broadcast", "event": "e", "payload": {"n": 1}, "meta": META, "more": True}
            await socket.send(json.dumps({"topic": message["topic"], "event": "broadcast", "ref": None, "payload": body}))

async def main():
    heard = asyncio.Queue()
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        client = AsyncRealtimeClient(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", "key")
        await client.connect()
        channel = client.channel("room")
        channel.on_broadcast("e", heard.put_nowait)
        await channel.subscribe()
        print(json.dumps(await asyncio.wait_for(heard.get(), 10)))
        await client.close()

asyncio.run(main())
PY
