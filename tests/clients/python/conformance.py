"""The stock Python client against the relay, in whichever release this interpreter has: nothing in here is patched.

The last line counts as Rust's test runner does, for `cargo xtask test`.
"""

import asyncio
import base64
import hashlib
import hmac
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import traceback
import uuid

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

RELAY = os.environ["CAMPFIRE_RELAY"]
API_KEY = os.environ["CAMPFIRE_API_KEY"]
SECRET = os.environ["CAMPFIRE_JWT_SECRET"].encode()
ORGANIZATION = os.environ["CAMPFIRE_ORGANIZATION"]
AGENT = os.environ["CAMPFIRE_AGENT"]
VERSION = importlib.metadata.version("realtime")
PATIENCE = 20
FEATURES = []


def feature(title):
    """Registers a row of the table in docs/clients.md."""

    def register(run):
        FEATURES.append((title, run))
        return run

    return register


def sign(claims):
    def encode(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    body = encode({"alg": "HS256", "typ": "JWT"}) + b"." + encode(claims)
    tag = base64.urlsafe_b64encode(hmac.new(SECRET, body, hashlib.sha256).digest()).rstrip(b"=")
    return (body + b"." + tag).decode()


def agent_token(seconds=3600):
    return sign({"role": "authenticated", "sub": AGENT, "org_id": ORGANIZATION, "exp": int(time.time()) + seconds})


def sql(script):
    arguments = [os.environ["CAMPFIRE_PSQL"], "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    subprocess.run([*arguments, "-d", os.environ["CAMPFIRE_DATABASE"], "-c", script], check=True, stdout=subprocess.DEVNULL)


def open_conversation():
    conversation = str(uuid.uuid4())
    sql(f"insert into conversations (id, organization_id, metadata) values ('{conversation}', '{ORGANIZATION}', '{{}}')")
    return conversation


def write(conversation, content):
    sql(
        "insert into messages (organization_id, conversation_id, content, sender_type) "
        f"values ('{ORGANIZATION}', '{conversation}', '{content}', 'visitor')"
    )


class Joined:
    """A channel, what it was told and what it heard."""

    def __init__(self, channel):
        self.channel = channel
        self.events = asyncio.Queue()
        self.statuses = asyncio.Queue()

    async def event(self):
        return await asyncio.wait_for(self.events.get(), PATIENCE)

    async def status(self):
        return await asyncio.wait_for(self.statuses.get(), PATIENCE)


async def connect(token=None):
    client = AsyncRealtimeClient(f"{RELAY}/realtime/v1", API_KEY)
    await client.connect()
    await client.set_auth(token or agent_token())
    return client


async def subscribe(client, name, config=None, events=("message:created", "e", "public")):
    params = {"config": {"broadcast": {"ack": False, "self": False}, "presence": {"key": ""}, "private": False, **(config or {})}}
    joined = Joined(client.channel(name, params))
    for event in events:
        joined.channel.on_broadcast(event, joined.events.put_nowait)
    await joined.channel.subscribe(lambda status, error: joined.statuses.put_nowait((status, error)))
    return joined


async def join(client, name, config=None):
    joined = await subscribe(client, name, config)
    status, error = await joined.status()
    assert status == RealtimeSubscribeStates.SUBSCRIBED, (name, status, error)
    return joined


@feature("join a public channel")
async def join_public():
    client = await connect()
    await join(client, f"room:{uuid.uuid4()}")
    await client.close()


@feature("join a private channel of an organization")
async def join_private():
    client = await connect()
    await join(client, f"org:{ORGANIZATION}:conversations", {"private": True})
    await client.close()


@feature("a refused join tells the reason")
async def refused():
    client = await connect()
    joined = await subscribe(client, f"org:{uuid.uuid4()}")
    status, error = await joined.status()
    assert status == RealtimeSubscribeStates.CHANNEL_ERROR, status
    assert "Unauthorized: You do not have permissions" in str(error), error
    await client.close()


@feature("postgres_changes is refused with the reason")
async def postgres_changes():
    client = await connect()
    channel = client.channel(f"org:{ORGANIZATION}")
    statuses = asyncio.Queue()
    channel.on_postgres_changes("*", schema="public", table="messages", callback=lambda payload: None)
    await channel.subscribe(lambda status, error: statuses.put_nowait((status, error)))
    status, error = await asyncio.wait_for(statuses.get(), PATIENCE)
    assert status == RealtimeSubscribeStates.CHANNEL_ERROR, status
    assert "PostgresChangesNotSupported" in str(error), error
    await client.close()


@feature("broadcast from client to client")
async def broadcast():
    one, other = await connect(), await connect()
    room = f"room:{uuid.uuid4()}"
    sender, receiver = await join(one, room), await join(other, room)
    await sender.channel.send_broadcast("e", {"s": "ü👋"})
    heard = await receiver.event()
    assert heard["payload"] == {"s": "ü👋"}, heard
    await receiver.channel.send_broadcast("e", {"n": 2})
    # Its own did not come before the other's.
    assert (await sender.event())["payload"] == {"n": 2}
    await one.close()
    await other.close()


@feature("broadcast with ack and self")
async def ack_and_self():
    client = await connect()
    joined = await join(client, f"room:{uuid.uuid4()}", {"broadcast": {"ack": True, "self": True}})
    await joined.channel.send_broadcast("e", {"n": 1})
    assert (await joined.event())["payload"] == {"n": 1}
    await client.close()


@feature("events of committed rows")
async def rows():
    client = await connect()
    conversation = open_conversation()
    joined = await join(client, f"org:{ORGANIZATION}:conv:{conversation}")
    write(conversation, "hello")
    assert (await joined.event())["payload"]["content"] == "hello"
    await client.close()


@feature("replay of row events")
async def replay():
    client, late = await connect(), await connect()
    conversation = open_conversation()
    topic = f"org:{ORGANIZATION}:conv:{conversation}"
    since = int(time.time() * 1000) - 60_000
    witness = await join(client, topic)
    for content in ["one", "two", "three"]:
        write(conversation, content)
        await witness.event()
    joined = await join(late, topic, {"private": True, "broadcast": {"replay": {"since": since, "limit": 2}}})
    assert [(await joined.event())["payload"]["content"] for _ in range(2)] == ["two", "three"]
    await client.close()
    await late.close()


@feature("realtime.send()")
async def send():
    client = await connect()
    room = f"room:{uuid.uuid4()}"
    joined = await join(client, room)
    sql(f"select realtime.send('{{\"n\": 0}}', 'e', '{room}'); select realtime.send('{{\"n\": 1}}', 'public', '{room}', false)")
    heard = await joined.event()
    assert (heard["event"], heard["payload"]["n"]) == ("public", 1), heard
    await client.close()


@feature("a refreshed token outlives the first")
async def refresh():
    client = await connect(agent_token(4))
    expires = int(time.time()) + 4
    conversation = open_conversation()
    joined = await join(client, f"org:{ORGANIZATION}:conv:{conversation}")
    await client.set_auth(agent_token())
    await asyncio.sleep(max(0, expires + 1 - time.time()))
    write(conversation, "still here")
    assert (await joined.event())["payload"]["content"] == "still here"
    await client.close()


async def main():
    failed = 0
    for title, run in FEATURES:
        try:
            await asyncio.wait_for(run(), 60)
        except BaseException:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"test {VERSION}, 1.0.0: {title} ... FAILED", flush=True)
            continue
        print(f"test {VERSION}, 1.0.0: {title} ... ok", flush=True)
        if path := os.environ.get("CAMPFIRE_CONFORMANCE"):
            with open(path, "a") as lines:
                line = {"client": "realtime (Python)", "version": VERSION, "vsn": "1.0.0", "feature": title}
                print(json.dumps(line), file=lines)
    print(f"test result: {'FAILED' if failed else 'ok'}. {len(FEATURES) - failed} passed; {failed} failed")
    return failed


sys.exit(1 if asyncio.run(main()) else 0)
