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
import urllib.parse
import uuid

import websockets
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates

RELAY = os.environ["CAMPFIRE_RELAY"]
API_KEY = os.environ["CAMPFIRE_API_KEY"]
SECRET = os.environ["CAMPFIRE_JWT_SECRET"].encode()
ORGANIZATION = os.environ["CAMPFIRE_ORGANIZATION"]
AGENT = os.environ["CAMPFIRE_AGENT"]
VERSION = importlib.metadata.version("realtime")
# Seconds that anything may take: it finds only what hangs, and a busy machine is slow.
PATIENCE = 120
FEATURES = []


# What a release has not, or does wrong against any server: None, or how. Only pinned releases were looked at.
CLOSES_ITSELF = "on a new connection it leaves its channels, and takes the answer for their end" if VERSION == "2.20.0" else None
NO_META = "what it hears has no meta" if VERSION == "2.20.0" else None
NO_END = None if VERSION == "2.34.1" else "it tells nobody that a channel has ended"
NO_HTTP_SEND = None if hasattr(AsyncRealtimeChannel, "http_send") else "it has no http_send()"


def feature(title, without=None):
    """A row of the table in docs/clients.md: a test, or the reason why there is none."""

    def register(run):
        FEATURES.append((title, run, without))
        return run

    return register


def sign(claims):
    def encode(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    body = encode({"alg": "HS256", "typ": "JWT"}) + b"." + encode(claims)
    tag = base64.urlsafe_b64encode(hmac.new(SECRET, body, hashlib.sha256).digest()).rstrip(b"=")
    return (body + b"." + tag).decode()


def agent_token(expires=None, grants=()):
    """What `grants` mean says conformance.sql."""
    claims = {"role": "authenticated", "sub": AGENT, "org_id": ORGANIZATION, "grants": list(grants)}
    return sign({**claims, "exp": expires or int(time.time()) + 3600})


def room():
    return f"room:{uuid.uuid4()}"


def private_room():
    return f"private:{uuid.uuid4()}"


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
        self.news = asyncio.Queue()

    async def event(self):
        return await asyncio.wait_for(self.events.get(), PATIENCE)

    async def payload(self):
        return (await self.event())["payload"]

    async def status(self):
        return await asyncio.wait_for(self.statuses.get(), PATIENCE)

    async def becomes(self, wanted):
        """The error that came with a status, whatever came before it."""
        while True:
            status, error = await self.status()
            if status == wanted:
                return error

    def present(self):
        return {key: [meta["name"] for meta in metas] for key, metas in self.channel.presence_state().items()}

    async def shows(self, wanted):
        """Waits until this is who is there."""
        while self.present() != wanted:
            await asyncio.wait_for(self.news.get(), PATIENCE)


class Cable:
    """A way to the relay that can be cut."""

    @classmethod
    async def lay(cls):
        cable = cls()
        cable.writers = set()
        cable.server = await asyncio.start_server(cable.carry, "127.0.0.1")
        cable.url = "http://127.0.0.1:%d" % cable.server.sockets[0].getsockname()[1]
        return cable

    async def carry(self, reader, writer):
        relay = urllib.parse.urlsplit(RELAY)
        far_reader, far_writer = await asyncio.open_connection(relay.hostname, relay.port)
        self.writers |= {writer, far_writer}

        async def pipe(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except ConnectionError:
                pass
            sink.transport.abort()

        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def end(self):
        """Cuts it for good."""
        self.server.close()
        self.cut()


OPEN = []


async def anonymous(url=RELAY):
    """A client without a token of its own, closed when the test is over."""
    client = AsyncRealtimeClient(f"{url}/realtime/v1", API_KEY)
    OPEN.append(client)
    await client.connect()
    return client


async def connect(token=None, url=RELAY):
    client = await anonymous(url)
    await client.set_auth(token or agent_token())
    return client


async def member(name, *grants, **rest):
    """A channel of a new client that has the grants of conformance.sql."""
    return await join(await connect(agent_token(grants=grants)), name, {"private": True, **rest})


def prepare(client, name, config=None, events=("message:created", "e", "public"), attend=False):
    params = {"config": {"broadcast": {"ack": False, "self": False}, "presence": {"key": ""}, "private": False, **(config or {})}}
    joined = Joined(client.channel(name, params))
    for event in events:
        joined.channel.on_broadcast(event, joined.events.put_nowait)
    if attend:
        joined.channel.on_presence_sync(lambda: joined.news.put_nowait(None))
    return joined


async def subscribe(joined):
    await joined.channel.subscribe(lambda status, error: joined.statuses.put_nowait((status, error)))
    return joined


async def join(client, name, config=None, **rest):
    joined = await subscribe(prepare(client, name, config, **rest))
    status, error = await joined.status()
    assert status == RealtimeSubscribeStates.SUBSCRIBED, (name, status, error)
    return joined


async def refused(joined, reason):
    await subscribe(joined)
    status, error = await joined.status()
    assert status == RealtimeSubscribeStates.CHANNEL_ERROR, status
    assert reason in str(error), error


@feature("channels: join")
async def join_public():
    await join(await connect(), room())


@feature("channels: join an organization, public or private")
async def join_organization():
    for private in [False, True]:
        await join(await connect(), f"org:{ORGANIZATION}:conversations", {"private": private})


@feature("channels: join without a token")
async def join_without_token():
    client = await anonymous()
    await join(client, room())
    await refused(prepare(client, f"org:{ORGANIZATION}"), "Unauthorized: You do not have permissions")


@feature("channels: a name that is empty is refused")
async def no_name():
    await refused(prepare(await connect(), ""), "TopicNameRequired: You must provide a topic name")


@feature("channels: replication_ready")
async def replication_ready():
    systems = asyncio.Queue()
    joined = prepare(await connect(), room(), {"broadcast": {"replication_ready": True}})
    joined.channel.on_system(systems.put_nowait)
    await subscribe(joined)
    told = await asyncio.wait_for(systems.get(), PATIENCE)
    # A dictionary in some releases, an object in others.
    assert "Replication connection established" in str(told), told


@feature("channels: a refused join tells the reason")
async def refused_join():
    await refused(prepare(await connect(), f"org:{uuid.uuid4()}"), "Unauthorized: You do not have permissions")


@feature("channels: postgres_changes is refused with the reason")
async def postgres_changes():
    joined = prepare(await connect(), f"org:{ORGANIZATION}")
    joined.channel.on_postgres_changes("*", schema="public", table="messages", callback=lambda payload: None)
    await refused(joined, "PostgresChangesNotSupported")


@feature("channels: leave and join again")
async def leave():
    one, client = await connect(), await connect()
    name = room()
    sender = await join(one, name)
    # Without it, the client closes the socket with its last channel.
    echo = await join(client, room(), {"broadcast": {"self": True}})
    first = await join(client, name)
    await sender.channel.send_broadcast("e", {"n": 1})
    assert await first.payload() == {"n": 1}
    await client.remove_channel(first.channel)
    # Who joins before the end of the first has come takes it for the end of the second.
    await echo.channel.send_broadcast("e", {})
    await echo.event()
    second = await join(client, name)
    await sender.channel.send_broadcast("e", {"n": 2})
    assert await second.payload() == {"n": 2}
    assert first.events.empty()


@feature("channels: a push before the join is answered")
async def early_push():
    name = private_room()
    receiver = await member(name, "read broadcast")
    token = agent_token(grants=["read broadcast", "write broadcast"])
    sender = prepare(await connect(token), name, {"private": True})
    subscribing = asyncio.create_task(subscribe(sender))
    while not sender.channel.is_joining:
        await asyncio.sleep(0)
    await sender.channel.send_broadcast("e", {"n": 1})
    assert sender.statuses.empty(), "the join was answered first"
    assert await receiver.payload() == {"n": 1}
    await subscribing
    await sender.becomes(RealtimeSubscribeStates.SUBSCRIBED)


@feature("channels: a lost connection is made and joined anew", CLOSES_ITSELF)
async def lost_connection():
    cable = await Cable.lay()
    conversation = open_conversation()
    joined = await join(await connect(url=cable.url), f"org:{ORGANIZATION}:conv:{conversation}")
    cable.cut()
    await joined.becomes(RealtimeSubscribeStates.SUBSCRIBED)
    write(conversation, "after the cut")
    assert (await joined.payload())["content"] == "after the cut"


@feature("broadcast: from client to client")
async def broadcast():
    name = room()
    sender, receiver = await join(await connect(), name), await join(await connect(), name)
    await sender.channel.send_broadcast("e", {"s": "ü👋"})
    assert await receiver.payload() == {"s": "ü👋"}
    await receiver.channel.send_broadcast("e", {"n": 2})
    # Its own did not come before the other's.
    assert await sender.payload() == {"n": 2}


@feature("broadcast: ack and self")
async def ack_and_self():
    joined = await join(await connect(), room(), {"broadcast": {"ack": True, "self": True}})
    await joined.channel.send_broadcast("e", {"n": 1})
    assert await joined.payload() == {"n": 1}


@feature("rows: events")
async def rows():
    conversation = open_conversation()
    joined = await join(await connect(), f"org:{ORGANIZATION}:conv:{conversation}")
    write(conversation, "hello")
    assert (await joined.payload())["content"] == "hello"


async def replayed(options):
    """Three messages, and what a replay tells of them; `options` get the first one."""
    conversation = open_conversation()
    topic = f"org:{ORGANIZATION}:conv:{conversation}"
    witness = await join(await connect(), topic)
    heard = []
    for content in ["one", "two", "three"]:
        write(conversation, content)
        heard.append(await witness.event())
    config = {"private": True, "broadcast": {"replay": options(heard[0])}}
    joined = await join(await connect(), topic, config)
    assert [(await joined.payload())["content"] for _ in range(2)] == ["two", "three"]


@feature("rows: replay since a time")
async def replay_since():
    await replayed(lambda first: {"since": int(time.time() * 1000) - 60_000, "limit": 2})


@feature("rows: replay after a position", NO_META)
async def replay_after():
    await replayed(lambda first: {"after": first["meta"]["id"]})


@feature("rows: a snapshot, then what is new")
async def snapshot():
    conversation = open_conversation()
    for content in ["one", "two", "three"]:
        write(conversation, content)
    config = {"private": True, "broadcast": {"replay": {"snapshot": 2}}}
    joined = await join(await connect(), f"org:{ORGANIZATION}:conv:{conversation}", config)
    write(conversation, "four")
    assert [(await joined.payload())["content"] for _ in range(3)] == ["two", "three", "four"]


@feature("SQL: realtime.send()")
async def send():
    name = room()
    joined = await join(await connect(), name)
    sql(f"select realtime.send('{{\"n\": 0}}', 'e', '{name}'); select realtime.send('{{\"n\": 1}}', 'public', '{name}', false)")
    heard = await joined.event()
    assert (heard["event"], heard["payload"]["n"]) == ("public", 1), heard


@feature("SQL: realtime.broadcast_changes() of a trigger")
async def changes():
    name, note = private_room(), uuid.uuid4()
    token = agent_token(grants=["read broadcast"])
    joined = await join(await connect(token), name, {"private": True}, events=["INSERT", "DELETE"])
    sql(f"insert into notes values ('{note}', '{name}', 'x'); delete from notes where id = '{note}'")
    record = {"id": str(note), "room": name, "body": "x"}
    for operation, new, old in [("INSERT", record, None), ("DELETE", None, record)]:
        payload = await joined.payload()
        assert [payload["operation"], payload["record"], payload["old_record"]] == [operation, new, old], payload


async def soon():
    """When a token is to expire: in four seconds and, where a join takes long at the moment, ten times as long."""
    began = time.time()
    await join(await connect(), room())
    return int(time.time() + 4 + 10 * (time.time() - began))


@feature("tokens: a new one outlives the first")
async def refresh():
    expires = await soon()
    client = await connect(agent_token(expires))
    conversation = open_conversation()
    joined = await join(client, f"org:{ORGANIZATION}:conv:{conversation}")
    await client.set_auth(agent_token())
    # Nothing tells that a token would have expired, but the time.
    await asyncio.sleep(max(0, expires + 1 - time.time()))
    write(conversation, "still here")
    assert (await joined.payload())["content"] == "still here"


@feature("tokens: one that expires closes its channels and says so", NO_END)
async def expiry():
    joined = await join(await connect(agent_token(await soon())), f"org:{ORGANIZATION}")
    assert "Token has expired" in str(await joined.becomes(RealtimeSubscribeStates.CHANNEL_ERROR))
    await joined.becomes(RealtimeSubscribeStates.CLOSED)


@feature("presence: nobody is there")
async def nobody():
    joined = await join(await connect(), room(), {"presence": {"key": "ann"}}, attend=True)
    await asyncio.wait_for(joined.news.get(), PATIENCE)
    assert joined.present() == {}


@feature("presence: come, untrack, leave")
async def presence():
    name = room()
    one, other = await connect(), await connect()
    # Without it, the client closes the socket with its last channel.
    await join(other, room())
    news = []
    ann = prepare(one, name, {"presence": {"key": "ann"}}, attend=True)
    names = lambda metas: [meta["name"] for meta in metas]
    ann.channel.on_presence_join(lambda key, _, metas: news.append(("join", key, names(metas))))
    ann.channel.on_presence_leave(lambda key, _, metas: news.append(("leave", key, names(metas))))
    await (await subscribe(ann)).becomes(RealtimeSubscribeStates.SUBSCRIBED)
    await ann.channel.track({"name": "Ann"})
    await ann.shows({"ann": ["Ann"]})
    bob = await join(other, name, {"presence": {"key": "bob"}}, attend=True)
    await bob.shows({"ann": ["Ann"]})
    await bob.channel.track({"name": "Bob"})
    await ann.shows({"ann": ["Ann"], "bob": ["Bob"]})
    await bob.channel.untrack()
    await ann.shows({"ann": ["Ann"]})
    await bob.channel.track({"name": "Bob again"})
    await ann.shows({"ann": ["Ann"], "bob": ["Bob again"]})
    await other.remove_channel(bob.channel)
    await ann.shows({"ann": ["Ann"]})
    again = [("join", "bob", ["Bob again"]), ("leave", "bob", ["Bob again"])]
    assert news == [("join", "ann", ["Ann"]), ("join", "bob", ["Bob"]), ("leave", "bob", ["Bob"]), *again], news


@feature("presence: seen without listening")
async def unlistening():
    name = room()
    watcher = await join(await connect(), name, {"presence": {"key": "watcher"}}, attend=True)
    ann = await join(await connect(), name, {"presence": {"key": "ann"}})
    await ann.channel.track({"name": "Ann"})
    await watcher.shows({"ann": ["Ann"]})


@feature("presence: too many calls close the channel", NO_END)
async def too_many_calls():
    joined = await join(await connect(), room(), {"presence": {"key": "ann"}})
    for n in range(21):
        await joined.channel.track({"n": n})
    assert "Client presence rate limit exceeded" in str(await joined.becomes(RealtimeSubscribeStates.CHANNEL_ERROR))
    await joined.becomes(RealtimeSubscribeStates.CLOSED)


@feature("presence: change")
async def presence_change():
    name = room()
    ann = await join(await connect(), name, {"presence": {"key": "ann"}}, attend=True)
    bob = await join(await connect(), name, {"presence": {"key": "bob"}}, attend=True)
    await bob.channel.track({"name": "Bob"})
    await ann.shows({"bob": ["Bob"]})
    await bob.channel.track({"name": "Bobby"})
    await ann.shows({"bob": ["Bobby"]})


@feature("presence: two devices of a key, and one is lost")
async def two_devices():
    name, cable = room(), await Cable.lay()
    watcher = await join(await connect(), name, {"presence": {"key": "watcher"}}, attend=True)
    phone = await join(await connect(url=cable.url), name, {"presence": {"key": "ann"}}, attend=True)
    desk = await join(await connect(), name, {"presence": {"key": "ann"}}, attend=True)
    await phone.channel.track({"name": "phone"})
    await watcher.shows({"ann": ["phone"]})
    await desk.channel.track({"name": "desk"})
    await watcher.shows({"ann": ["phone", "desk"]})
    cable.end()
    await watcher.shows({"ann": ["desk"]})


@feature("private: allowed")
async def private_allowed():
    name = private_room()
    sender = await member(name, "read broadcast", "write broadcast")
    receiver = await member(name, "read broadcast")
    await sender.channel.send_broadcast("e", {"n": 1})
    assert await receiver.payload() == {"n": 1}
    sql(f"select realtime.send('{{\"n\": 2}}', 'e', '{name}')")
    assert (await receiver.payload())["n"] == 2


@feature("private: replay since a time")
async def private_replay():
    name = private_room()
    since = int(time.time() * 1000) - 60_000
    witness = await member(name, "read broadcast")
    for n in [1, 2, 3]:
        sql(f"select realtime.send('{{\"n\": {n}}}', 'e', '{name}')")
        assert (await witness.payload())["n"] == n
    joined = await member(name, "read broadcast", broadcast={"replay": {"since": since, "limit": 2}})
    sql(f"select realtime.send('{{\"n\": 4}}', 'e', '{name}')")
    assert [(await joined.payload())["n"] for _ in range(3)] == [2, 3, 4]


@feature("private: refused")
async def private_refused():
    joined = prepare(await connect(agent_token()), private_room(), {"private": True})
    await refused(joined, "Unauthorized: You do not have permissions to read from this Channel topic")


@feature("private: who may only read")
async def private_reader():
    name = private_room()
    reader, listener = await member(name, "read broadcast"), await member(name, "read broadcast")
    fence = await join(reader.channel.socket, room(), {"broadcast": {"self": True}})
    await reader.channel.send_broadcast("e", {"n": 1})
    # What its socket hears of itself, the relay did after the first.
    await fence.channel.send_broadcast("e", {})
    await fence.event()
    writer = await member(name, "read broadcast", "write broadcast")
    await writer.channel.send_broadcast("e", {"n": 2})
    assert [await heard.payload() for heard in (reader, listener)] == [{"n": 2}] * 2


@feature("private: who may only see who is there")
async def private_watcher():
    name = private_room()
    speaker = await member(name, "read broadcast", "write broadcast", "read presence", "write presence", presence={"key": "ann"})
    client = await connect(agent_token(grants=["read presence"]))
    watcher = await join(client, name, {"private": True, "presence": {"key": ""}}, attend=True)
    await speaker.channel.send_broadcast("e", {"n": 1})
    await speaker.channel.track({"name": "Ann"})
    await watcher.shows({"ann": ["Ann"]})
    assert watcher.events.empty()


@feature("private: apart from the public channel of that name")
async def private_apart():
    name = private_room()
    grants = ["read broadcast", "write broadcast"]
    inside, other = await member(name, *grants), await member(name, *grants)
    outside, stranger = await join(await connect(), name), await join(await connect(), name)
    await stranger.channel.send_broadcast("e", {"n": 1})
    assert await outside.payload() == {"n": 1}
    await other.channel.send_broadcast("e", {"n": 2})
    assert await inside.payload() == {"n": 2}
    await stranger.channel.send_broadcast("e", {"n": 3})
    assert await outside.payload() == {"n": 3}


@feature("private: a new token may grant and deny")
async def private_new_token():
    name = private_room()
    own, other = await member(name, "read broadcast"), await member(name, "read broadcast")
    for n, grants in enumerate([[], ["write broadcast"], [], ["write broadcast", "write presence"]]):
        await own.channel.socket.set_auth(agent_token(grants=["read broadcast", *grants]))
        await own.channel.send_broadcast("e", {"n": n})
    assert [await other.payload() for _ in range(2)] == [{"n": 1}, {"n": 3}]


@feature("private: a new token that may not read closes the channel", NO_END)
async def private_lost():
    own = await member(private_room(), "read broadcast")
    other = await join(own.channel.socket, room(), {"broadcast": {"self": True}})
    await own.channel.socket.set_auth(agent_token())
    error = await own.becomes(RealtimeSubscribeStates.CHANNEL_ERROR)
    assert "You do not have permissions to read from this Channel topic: private:" in str(error), error
    await own.becomes(RealtimeSubscribeStates.CLOSED)
    await other.channel.send_broadcast("e", {"n": 1})
    assert await other.payload() == {"n": 1}


@feature("HTTP: httpSend()", NO_HTTP_SEND)
async def http_send():
    name = f"room/a b:{uuid.uuid4()}"
    joined = await join(await connect(), name)
    channel = (await connect()).channel(name)
    await channel.http_send("e", {"n": 1})
    assert await joined.payload() == {"n": 1}


async def http_refused(joined):
    try:
        await joined.channel.http_send("e", {"n": 1})
    except Exception as error:
        assert "Unauthorized" in str(error), error
    else:
        raise AssertionError("it was accepted")


@feature("HTTP: an expired token is refused", NO_HTTP_SEND)
async def http_expired():
    await http_refused(prepare(await connect(agent_token(int(time.time()) - 60)), room()))


@feature("HTTP: httpSend() of bytes", NO_HTTP_SEND)
async def http_send_bytes():
    name = room()
    joined = await join(await connect(), name)
    # This client cannot be told bytes; one that speaks 2.0.0 is.
    address = RELAY.replace("http", "ws", 1) + f"/realtime/v1/websocket?apikey={API_KEY}&vsn=2.0.0"
    async with websockets.connect(address) as two:
        config = {"presence": {"enabled": False}}
        await two.send(json.dumps(["1", "1", f"realtime:{name}", "phx_join", {"config": config}]))
        assert json.loads(await asyncio.wait_for(two.recv(), PATIENCE))[4]["status"] == "ok"
        channel = (await connect()).channel(name)
        await channel.http_send("e", b"\xde\xad\x00")
        await channel.http_send("e", {"n": 1})
        frame = await asyncio.wait_for(two.recv(), PATIENCE)
        assert isinstance(frame, bytes) and frame.endswith(b"\xde\xad\x00"), frame
    assert await joined.payload() == {"n": 1}


@feature("private: httpSend()", NO_HTTP_SEND)
async def private_http_send():
    name = private_room()
    joined = await member(name, "read broadcast")
    writer = prepare(await connect(agent_token(grants=["write broadcast"])), name, {"private": True})
    await writer.channel.http_send("e", {"n": 1})
    assert await joined.payload() == {"n": 1}


@feature("private: httpSend() is refused", NO_HTTP_SEND)
async def private_http_send_refused():
    reader = prepare(await connect(agent_token(grants=["read broadcast"])), private_room(), {"private": True})
    await http_refused(reader)


async def main():
    ran = failed = 0
    for title, run, without in FEATURES:
        name = f"test {VERSION}, 1.0.0: {title} ..."
        if without:
            print(f"{name} ignored, {without}", flush=True)
            continue
        ran += 1
        try:
            await asyncio.wait_for(run(), 5 * PATIENCE)
        except BaseException:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"{name} FAILED", flush=True)
            continue
        finally:
            while OPEN:
                await OPEN.pop().close()
        print(f"{name} ok", flush=True)
        if path := os.environ.get("CAMPFIRE_CONFORMANCE"):
            with open(path, "a") as lines:
                line = {"client": "realtime (Python)", "version": VERSION, "vsn": "1.0.0", "feature": title}
                print(json.dumps(line), file=lines)
    print(f"test result: {'FAILED' if failed else 'ok'}. {ran - failed} passed; {failed} failed")
    return failed


sys.exit(1 if asyncio.run(main()) else 0)
