#!/usr/bin/env bash
# In the Python client of Supabase Realtime the end of a channel that was left closes the next one of that name.
#
# Software: realtime 2.34.1 (PyPI).
# Guess:    phx_close carries the reference of the join that it ends, and one of an earlier join is passed over, as
#           phoenix.js and realtime-js do it.
# Seen:     The reference is not looked at. Leave a channel, join it again, and the server's phx_close for the first,
#           which is in flight, closes the second: SUBSCRIBED, then CLOSED, and no attempt to come back.
source "$(dirname "$0")/lib/setup.sh"
pip_install realtime==2.34.1
venv/bin/python - <<'PY' | seen_is "join 1
first: SUBSCRIBED
leave
join 3
second: SUBSCRIBED
the end of join 1 arrives
second: CLOSED"
import asyncio, json
import websockets
from realtime import AsyncRealtimeClient

async def serve(socket):
    joins = []
    async for text in socket:
        message = json.loads(text)
        event, ref, topic = message["event"], message["ref"], message["topic"]
        reply = {"topic": topic, "event": "phx_reply", "ref": ref, "payload": {"status": "ok", "response": {"postgres_changes": []}}}
        if event == "phx_join":
            print("join", ref)
            joins.append(ref)
            await socket.send(json.dumps(reply))
            if len(joins) == 2:
                await asyncio.sleep(0.3)
                print("the end of join", joins[0], "arrives")
                await socket.send(json.dumps({"topic": topic, "event": "phx_close", "ref": joins[0], "payload": {}}))
        elif event == "phx_leave":
            print("leave")
            await socket.send(json.dumps(reply))

async def main():
    ended = asyncio.Event()
    def tell(name):
        def on_status(status, error):
            if name == "first" and status.name == "CLOSED":
                return
            print(f"{name}: {status.name}")
            if status.name == "CLOSED":
                ended.set()
        return on_status
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        client = AsyncRealtimeClient(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", "key")
        await client.connect()
        first = client.channel("room")
        await first.subscribe(tell("first"))
        await asyncio.sleep(0.3)
        await first.unsubscribe()
        await asyncio.sleep(0.3)
        await client.channel("room").subscribe(tell("second"))
        await asyncio.wait_for(ended.wait(), 10)
        await client.close()

asyncio.run(main())
PY
