// web/client on the unmodified supabase-js, against a relay that is cut off,
// killed and started again.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'
import { createCampfire } from '../../../web/client/dist/src/index.js'
import { dropSlot, OwnRelay } from '../relay.js'
import {
  DEADLINE_MS, agentClaims, apiKey, joinConfig, openConversation, organization, serializations, sign, sql, subscribe, writeAs,
} from '../support.js'

let relay
before(async () => {
  relay = await OwnRelay.start(process.env.CAMPFIRE_RELAY_PID, 'client_helper')
})
after(async () => {
  await relay.kill9()
  await dropSlot(relay)
})

/** Values that are appended as they come, and can be waited for. */
class Trace extends Array {
  #waiting = new Set()

  add(value) {
    this.push(value)
    for (const check of [...this.#waiting]) check()
  }

  /** Resolves with what `find` gives, as soon as that is something. */
  until(what, find) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(check)
        reject(new Error(`${what}: not within ${DEADLINE_MS} ms: ${JSON.stringify([...this])}\n${relay.log.slice(-2000)}`))
      }, DEADLINE_MS)
      const check = () => {
        const found = find([...this])
        if (!found) return
        clearTimeout(timer)
        this.#waiting.delete(check)
        resolve(found)
      }
      this.#waiting.add(check)
      check()
    })
  }

  count(number) {
    return this.until(`${number} values`, (values) => values.length >= number && values.slice(0, number))
  }
}

/** The stock client and the helper around it, with a hand on the sockets. */
function connect(t, { vsn = '2.0.0', claims = agentClaims, getToken, storage, heartbeatIntervalMs } = {}) {
  const sockets = []
  const frames = new Trace()
  class Transport extends ws {
    constructor(...parameters) {
      super(...parameters)
      sockets.push(this)
      this.on('message', (data) => frames.add(String(data)))
    }
  }
  const client = createClient(relay.url, apiKey, {
    realtime: { transport: Transport, vsn, reconnectAfterMs: () => 50, ...(heartbeatIntervalMs && { heartbeatIntervalMs }) },
  })
  const incomplete = new Trace()
  const campfire = createCampfire(client, {
    getToken: getToken ?? (() => sign(claims())), storage,
    onIncomplete: (channel, reason) => incomplete.add({ channel: channel.name, reason }),
    backoff: { minMs: 100, maxMs: 2_000 },
  })
  t.after(async () => {
    await campfire.close()
    client.realtime.disconnect()
  })
  return { client, campfire, incomplete, sockets, frames }
}

/** Subscribes and waits until it is joined. */
async function join(campfire, name, options) {
  const events = new Trace()
  const statuses = new Trace()
  const channel = campfire.channel(name, options).on('*', (event) => events.add(event))
  channel.subscribe((status, error) => statuses.add({ status, error: error?.message }))
  const joined = (times) => statuses.until(`joined ${times} times`, (all) =>
    all.filter(({ status }) => status === 'joined').length >= times)
  await joined(1)
  return { channel, events, statuses, joined }
}

const conversationChannel = (conversation) => `bcast:org:${organization}:conv:${conversation}`
const contents = (events) => [...events].map(({ payload }) => payload.content)
const numbered = (name, from, to) => Array.from({ length: to - from + 1 }, (_, index) => `${name} ${from + index}`)

/** Messages of one statement each, in order. */
const write = (conversation, name, from, to) => sql(`do $$ begin for n in ${from}..${to} loop
    insert into messages (organization_id, conversation_id, content, sender_type)
    values ('${organization}', '${conversation}', '${name} ' || n, 'visitor');
    commit;
  end loop; end $$`)

/** Everything that was written has been sent by the relay: asked of a stock client beside the helper. */
async function settle(t) {
  const conversation = await openConversation()
  const client = createClient(relay.url, apiKey, {
    accessToken: async () => sign(agentClaims()), realtime: { transport: ws },
  })
  t.after(() => client.realtime.disconnect())
  await client.realtime.setAuth()
  const { received, channel } = await subscribe(client, conversationChannel(conversation), joinConfig)
  await write(conversation, 'fence', 1, 1)
  await received(1)
  await client.removeChannel(channel)
}

const cut = async ({ sockets }) => {
  const socket = sockets.at(-1)
  const closed = once(socket, 'close')
  socket.terminate()
  await closed
}

for (const vsn of serializations) {
  test(`a cut socket costs nothing: no gap, no double, in order (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const connection = connect(t, { vsn })
    const { events, channel, joined, statuses } = await join(connection.campfire, conversationChannel(conversation))
    await write(conversation, 'seen', 1, 3)
    await events.count(3)
    await cut(connection)
    assert.equal(channel.status, 'reconnecting')
    await write(conversation, 'missed', 1, 50)
    await joined(2)
    await write(conversation, 'live', 1, 3)
    await events.count(56)
    assert.deepEqual(contents(events), [
      ...numbered('seen', 1, 3), ...numbered('missed', 1, 50), ...numbered('live', 1, 3),
    ])
    assert.equal(channel.position, events.at(-1).meta.id)
    assert.equal(connection.incomplete.length, 0)
    assert.deepEqual([...statuses].map(({ status }) => status), ['joining', 'joined', 'reconnecting', 'joined'])
  })

  test(`events that come while away are marked as replayed, the others not (${vsn})`, async (t) => {
    const conversation = await openConversation()
    const connection = connect(t, { vsn })
    const { events, channel, joined } = await join(connection.campfire, conversationChannel(conversation))
    await write(conversation, 'seen', 1, 1)
    await events.count(1)
    await channel.unsubscribe()
    await write(conversation, 'missed', 1, 5)
    await settle(t)
    assert.equal(events.length, 1)
    channel.subscribe()
    await events.count(6)
    await write(conversation, 'live', 1, 1)
    await events.count(7)
    assert.deepEqual([...events].map(({ replayed }) => replayed), [false, true, true, true, true, true, false])
    assert.equal(connection.incomplete.length, 0)
    await joined(1)
  })
}

test('sockets that are cut again and again under load lose nothing', async (t) => {
  const conversation = await openConversation()
  const connection = connect(t)
  const names = [conversationChannel(conversation), `org:${organization}:widget:${conversation}`]
  const channels = await Promise.all(names.map((name) => join(connection.campfire, name)))
  let [written, enough] = [0, false]
  const keepWriting = async () => {
    for (; !enough; written += 250) await write(conversation, 'message', written + 1, written + 250)
  }
  const writing = keepWriting()
  let cuts = 0
  const isFelt = () => channels.every(({ events }) => events.some(({ replayed }) => replayed))
  while (cuts < 5 || !isFelt()) {
    cuts += 1
    // In the midst of a replay or of live events, wherever it happens to be.
    await channels[0].events.count(cuts * 250)
    await cut(connection)
  }
  enough = true
  await writing
  for (const { events } of channels) {
    await events.count(written)
    assert.deepEqual(contents(events), numbered('message', 1, written))
  }
  assert.equal(connection.incomplete.length, 0)
  assert.ok(connection.sockets.length > cuts)
})

test('a relay killed with -9 and started again is resumed from', async (t) => {
  const conversation = await openConversation()
  const connections = serializations.map((vsn) => connect(t, { vsn }))
  const channels = await Promise.all(
    connections.map(({ campfire }) => join(campfire, conversationChannel(conversation))),
  )
  const writing = write(conversation, 'message', 1, 3000)
  for (let kill = 1; kill <= 2; kill += 1) {
    await channels[0].events.count(kill * 400)
    await relay.kill9()
    await relay.run()
  }
  await writing
  // Written while nobody was listening, and nothing follows.
  await relay.kill9()
  await write(conversation, 'message', 3001, 3005)
  await relay.run()
  for (const { events } of channels) {
    await events.count(3005)
    assert.deepEqual(contents(events), numbered('message', 1, 3005))
    assert.ok(events.at(-1).replayed)
  }
  for (const { incomplete } of connections) assert.deepEqual([...incomplete], [])
})

test('a client that looks away during a burst keeps its socket and gets all of it', async (t) => {
  const conversation = await openConversation()
  const connection = connect(t)
  const { events } = await join(connection.campfire, conversationChannel(conversation))
  const slow = connection.sockets.at(-1)
  // Nobody reads: first the kernel's buffers fill, then the relay's outbox.
  slow.pause()
  await sql(`insert into messages (organization_id, conversation_id, content, sender_type)
    select '${organization}', '${conversation}', n || ' ' || repeat('x', 10000), 'visitor'
    from generate_series(1, 2000) n`)
  await settle(t)
  slow.resume()
  await events.count(2000)
  const numbers = contents(events).map((content) => parseInt(content, 10))
  assert.deepEqual(numbers, Array.from({ length: 2000 }, (_, index) => index + 1))
  assert.equal(connection.sockets.at(-1), slow)
  // Nothing tells these from live ones.
  assert.ok(!events.some(({ replayed }) => replayed))
  assert.equal(connection.incomplete.length, 0)
})

test('a quiet channel resumes by the position of a heartbeat', async (t) => {
  const [conversation, other] = [await openConversation(), await openConversation()]
  const connection = connect(t, { heartbeatIntervalMs: 3000 })
  const { channel, events, joined } = await join(connection.campfire, conversationChannel(conversation))
  const atJoin = channel.position
  assert.ok(atJoin)
  await write(other, 'elsewhere', 1, 3)
  await settle(t)
  const heard = connection.frames.length
  await connection.frames.until('two heartbeats', (frames) =>
    frames.slice(heard).filter((frame) => frame.includes('"phoenix"')).length >= 2)
  assert.ok(channel.position > atJoin, `${channel.position} ${atJoin}`)
  assert.equal(events.length, 0)
  await cut(connection)
  await write(conversation, 'missed', 1, 2)
  await joined(2)
  await events.count(2)
  assert.deepEqual(contents(events), numbered('missed', 1, 2))
  assert.equal(connection.incomplete.length, 0)
})

test('a page that is loaded again goes on where it was', async (t) => {
  const conversation = await openConversation()
  const kept = new Map()
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) }
  const before = connect(t, { storage })
  const first = await join(before.campfire, conversationChannel(conversation))
  await write(conversation, 'seen', 1, 3)
  await first.events.count(3)
  await before.campfire.close()
  await write(conversation, 'missed', 1, 3)
  const after = connect(t, { storage })
  const second = await join(after.campfire, conversationChannel(conversation))
  await write(conversation, 'live', 1, 1)
  await second.events.count(4)
  assert.deepEqual(contents(second.events), [...numbered('missed', 1, 3), 'live 1'])
  assert.equal(after.incomplete.length, 0)
})

test('a position that the relay does not know is told as incomplete, once, and then all is well', async (t) => {
  const conversation = await openConversation()
  const name = conversationChannel(conversation)
  const unknown = 'ffff.00000001.00000000ffffffff.00000000'
  const storage = { getItem: () => unknown, setItem: () => {} }
  const connection = connect(t, { storage })
  const { channel, events, joined } = await join(connection.campfire, name)
  assert.notEqual(channel.position, unknown)
  await write(conversation, 'message', 1, 2)
  await events.count(2)
  assert.deepEqual([...connection.incomplete].map(({ channel: on }) => on), [name])
  assert.match(connection.incomplete[0].reason, /^ReplayIncomplete/)
  await cut(connection)
  await write(conversation, 'message', 3, 4)
  await joined(2)
  await events.count(4)
  assert.deepEqual(contents(events), numbered('message', 1, 4))
  assert.equal(connection.incomplete.length, 1)
})

test('a token is replaced before it expires, and the channel never notices', async (t) => {
  const conversation = await openConversation()
  const expiries = []
  const getToken = () => {
    // It is replaced after half of that.
    const exp = Math.floor(Date.now() / 1000) + 10
    expiries.push(exp)
    return sign({ ...agentClaims(), exp })
  }
  const { campfire, client } = connect(t, { getToken })
  const { events, statuses } = await join(campfire, conversationChannel(conversation))
  await sleep(expiries[0] * 1000 + 1_500 - Date.now()) // The passing of time is what is tested.
  await write(conversation, 'after expiry', 1, 1)
  await events.count(1)
  assert.ok(expiries.length >= 2)
  assert.equal(client.realtime.accessTokenValue, sign({ ...agentClaims(), exp: expiries.at(-1) }))
  assert.deepEqual([...statuses].map(({ status }) => status), ['joining', 'joined'])
})

test('an agent who is deactivated is put out, asks ever more slowly, and is let in again without a gap', async (t) => {
  const user = randomUUID()
  await sql(`insert into agents (organization_id, user_id, display_name, email, active)
    values ('${organization}', '${user}', 'Grace', '${user}@example.com', true)`)
  await settle(t)
  const conversation = await openConversation()
  let tokens = 0
  const getToken = () => {
    tokens += 1
    return sign({ ...agentClaims(), sub: user, jti: tokens })
  }
  const { campfire, incomplete } = connect(t, { getToken })
  const { channel, events, statuses, joined } = await join(campfire, conversationChannel(conversation))
  await write(conversation, 'seen', 1, 1)
  await events.count(1)
  await sql(`update agents set active = false where user_id = '${user}'`)
  const refusals = (all) => all.filter(({ status }) => status === 'refused')
  await statuses.until('refused three times', (all) => refusals(all).length >= 3)
  assert.equal(channel.status, 'refused')
  assert.match(refusals([...statuses])[0].error, /Unauthorized/)
  assert.equal([...statuses][2].status, 'reconnecting')
  // One to begin with, and one for each try.
  assert.ok(tokens <= 1 + refusals([...statuses]).length + 1, `${tokens} tokens`)
  await write(conversation, 'missed', 1, 3)
  await sql(`update agents set active = true where user_id = '${user}'`)
  await joined(2)
  await write(conversation, 'live', 1, 1)
  await events.count(5)
  assert.deepEqual(contents(events), ['seen 1', ...numbered('missed', 1, 3), 'live 1'])
  assert.equal(incomplete.length, 0)
})

test('many channels that are put out at once come back with one new token', async (t) => {
  const user = randomUUID()
  await sql(`insert into agents (organization_id, user_id, display_name, email, active)
    values ('${organization}', '${user}', 'Mary', '${user}@example.com', true)`)
  await settle(t)
  const conversations = [await openConversation(), await openConversation(), await openConversation()]
  let tokens = 0
  const getToken = () => {
    tokens += 1
    return sign({ ...agentClaims(), sub: user, jti: tokens })
  }
  const { campfire } = connect(t, { getToken })
  const channels = await Promise.all(conversations.map((id) => join(campfire, conversationChannel(id))))
  assert.equal(tokens, 1)
  // Off and on in one transaction: what is put out may come back at the first try.
  await sql(`update agents set active = false where user_id = '${user}';
    update agents set active = true where user_id = '${user}'`)
  await Promise.all(channels.map(({ joined }) => joined(2)))
  assert.equal(tokens, 2)
})

test('what a client sends reaches the others, and nothing is sent while it is not joined', async (t) => {
  const conversation = await openConversation()
  const [one, other] = [connect(t), connect(t)]
  const sender = await join(one.campfire, conversationChannel(conversation), { broadcast: { ack: true } })
  const receiver = await join(other.campfire, conversationChannel(conversation))
  assert.equal(await sender.channel.send('typing:start', { hello: 1 }), 'ok')
  const [typing] = await receiver.events.count(1)
  assert.equal(typing.event, 'typing:start')
  assert.equal(typing.replayed, false)
  await sender.channel.unsubscribe()
  assert.equal(await sender.channel.send('typing:start'), 'error')
})

test('a stock channel on the same client works beside the helper', async (t) => {
  const conversation = await openConversation()
  const { client, campfire } = connect(t)
  const { events } = await join(campfire, conversationChannel(conversation))
  const stock = await subscribe(client, `bcast:org:${organization}:widget:${conversation}`)
  await writeAs(agentClaims(), conversation, 'hello')
  const [[ours], [theirs]] = [await events.count(1), await stock.received(1)]
  assert.equal(ours.payload.content, 'hello')
  assert.equal(theirs.payload.content, 'hello')
  assert.equal(ours.meta.id, theirs.meta.id)
})

/** An own table of a shop that nobody else has, live on a private channel, with a policy for its sellers. */
async function openShop() {
  const shop = randomUUID()
  const table = `orders_${shop.replaceAll('-', '')}`
  await sql(`create table ${table} (id int primary key, shop text not null, state text default 'new');
    alter table ${table} replica identity full;
    alter table ${table} enable row level security;
    grant select on ${table} to authenticated;
    create policy own on ${table} for select to authenticated using (shop = campfire.claim('shop'));
    select campfire.publish('campfire', '${table}');
    select campfire.add_route('${table}', 'INSERT', 'shop:{shop}', 'order:created', '{id,state}');
    select campfire.add_route('${table}', 'UPDATE', 'shop:{shop}', 'order:updated', '{id,state}');
    do $$ begin
      if not exists (select from pg_policy where polname = 'shops') then
        execute format('create policy shops on %s for select to authenticated
          using (nullif(current_setting(''realtime.topic'', true), '''') = ''shop:'' || campfire.claim(''shop''))', campfire.policies_table());
      end if;
    end $$`)
  return { table, name: `shop:${shop}`, claims: () => ({ ...agentClaims(), shop }) }
}

for (const vsn of serializations) {
  test(`an own table on a private channel: rows, then the stream, over cuts and a relay that is killed (${vsn})`, async (t) => {
    const { table, name, claims } = await openShop()
    const insert = (from, to) => sql(`insert into ${table} (id, shop) select n, '${name.slice(5)}' from generate_series(${from}, ${to}) n`)
    await insert(1, 30)
    const connection = connect(t, { vsn, claims })
    const { channel, events, joined } = await join(connection.campfire, name, { snapshot: 20 })
    await events.count(20)
    const ids = () => [...events].map(({ payload }) => payload.id)
    const upTo = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
    assert.deepEqual(ids(), upTo(11, 30))
    assert.ok(events.every(({ event, snapshot }) => event === 'order:created' && snapshot))
    assert.equal(await channel.send('order:created', { id: 666 }), 'ok', 'without an ack nobody says no')
    await insert(31, 40)
    await events.count(30)
    await cut(connection)
    await insert(41, 60)
    await joined(2)
    await events.count(50)
    await relay.kill9()
    await insert(61, 70)
    await relay.run()
    await joined(3)
    await insert(71, 80)
    await events.count(70)
    assert.deepEqual(ids(), upTo(11, 80))
    assert.ok(events.slice(20).every(({ snapshot }) => !snapshot))
    assert.deepEqual([...connection.incomplete], [])
  })
}

test('after a gap a channel with a snapshot begins anew by itself', async (t) => {
  const { table, name, claims } = await openShop()
  const connection = connect(t, { claims })
  const { events, joined } = await join(connection.campfire, name, { snapshot: 20 })
  await sql(`insert into ${table} (id, shop) select n, '${name.slice(5)}' from generate_series(1, 3) n`)
  await events.count(3)
  await sql(`truncate ${table}; insert into ${table} (id, shop) values (9, '${name.slice(5)}')`)
  await joined(2)
  await events.until('the row that is left', (all) => all.some(({ payload, snapshot }) => payload.id === 9 && snapshot))
  assert.equal(connection.incomplete.length, 1)
})
