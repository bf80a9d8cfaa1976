// Private channels that policies on realtime.messages decide: here by the token's claim `grants`, see conformance.sql.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { agentClaims, sql } from '../support.js'
import { connect, ends, feature, join, lacks, refresh, refused, send } from './support.js'

const without = [lacks.private]
const all = ['read broadcast', 'write broadcast', 'read presence', 'write presence']
const granted = (...grants) => ({ ...agentClaims(), grants })
const member = async (t, vsn, ...grants) => connect(t, vsn, granted(...grants))
const privately = { private: true, broadcast: { ack: true } }
const unjoined = async (t, vsn, room, ...grants) => ({
  channel: (await member(t, vsn, ...grants)).channel(room, { config: privately }),
})
const unauthorized = /Unauthorized: You do not have permissions to read from this Channel topic/

feature('private: allowed', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const sender = await join(await member(t, vsn, 'read broadcast', 'write broadcast'), room, privately)
  const receiver = await join(await member(t, vsn, 'read broadcast'), room, privately)
  assert.equal(await send(sender, { n: 1 }), 'ok')
  await sql(`select realtime.send('{"n": 2}', 'e', '${room}')`)
  const events = await receiver.events.of(2)
  assert.deepEqual(events.map(({ payload }) => payload.n), [1, 2])
  assert.match(events[1].meta.id, /^[0-9a-f]{8}-/)
}, { without })

feature('private: refused', async (t, vsn) => {
  await refused(await member(t, vsn), `private:${randomUUID()}`, privately, unauthorized)
  await refused(await member(t, vsn, ...all), `other:${randomUUID()}`, privately, unauthorized)
}, { without })

feature('private: apart from the public channel of that name', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const client = await member(t, vsn, ...all)
  const inside = await join(client, room, privately)
  const outside = await join(await member(t, vsn, ...all), room, { broadcast: { ack: true } })
  const other = await join(await member(t, vsn, ...all), room, privately)
  assert.equal(await send(outside, { n: 1 }), 'ok')
  assert.equal(await send(other, { n: 2 }), 'ok')
  await sql(`select realtime.send('{"n": 3}', 'e', '${room}'), realtime.send('{"n": 4}', 'e', '${room}', false)`)
  const heard = async ({ events }, count) => (await events.of(count)).map(({ payload }) => payload.n)
  assert.deepEqual(await heard(inside, 2), [2, 3])
  assert.deepEqual(await heard(outside, 1), [4])
}, { without })

feature('private: who may only read', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const listen = (channel) => channel.on('presence', { event: 'sync' }, () => {})
  const reader = await join(await member(t, vsn, 'read broadcast', 'read presence'), room, privately, listen)
  const other = await join(await member(t, vsn, ...all), room, privately)
  // Unlike the reference, which leaves the client to its time-out.
  assert.equal(await send(reader, { n: 1 }), 'error')
  assert.equal(await reader.channel.track({ name: 'Ann' }), 'error')
  assert.equal(await send(other, { n: 2 }), 'ok')
  const [event] = await reader.events.of(1)
  assert.equal(event.payload.n, 2)
  assert.deepEqual(other.events.all, [])
}, { without })

feature('private: who may only see who is there', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const speaker = await join(await member(t, vsn, ...all), room, privately)
  let seen
  const watcher = await join(await member(t, vsn, 'read presence'), room, privately, (channel) => {
    seen = new Promise((resolve) => {
      channel.on('presence', { event: 'join' }, ({ newPresences }) => resolve(newPresences[0].name))
    })
  })
  assert.equal(await send(speaker, { n: 1 }), 'ok')
  assert.equal(await speaker.channel.track({ name: 'Ann' }), 'ok')
  assert.equal(await seen, 'Ann')
  assert.deepEqual(watcher.events.all, [])
}, { without })

feature('private: a new token may grant and deny', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const client = await member(t, vsn, 'read broadcast')
  const [own, other] = [await join(client, room, privately), await join(await member(t, vsn, ...all), room, privately)]
  assert.equal(await send(own, { n: 1 }), 'error')
  await refresh(client, granted('read broadcast', 'write broadcast'))
  assert.equal(await send(own, { n: 2 }), 'ok')
  await refresh(client, granted('read broadcast'))
  assert.equal(await send(own, { n: 3 }), 'error')
  await refresh(client, granted('read broadcast', 'write broadcast', 'write presence'))
  assert.equal(await send(own, { n: 4 }), 'ok')
  const events = await other.events.of(2)
  assert.deepEqual(events.map(({ payload }) => payload.n), [2, 4])
}, { without })

feature('private: a new token that may not read closes the channel', async (t, vsn) => {
  const client = await member(t, vsn, ...all)
  const own = await join(client, `private:${randomUUID()}`, privately)
  const other = await join(client, `room:${randomUUID()}`, { broadcast: { ack: true, self: true } })
  await refresh(client, granted())
  await ends(own, /You do not have permissions to read from this Channel topic: private:/)
  assert.equal(await send(other, { n: 1 }), 'ok')
}, { without })

/** Three messages of SQL that one member heard, and what a replay tells another; `options` get the first one. */
async function replayed(t, vsn, options) {
  const room = `private:${randomUUID()}`
  const since = Date.now() - 60_000
  const witness = await join(await member(t, vsn, 'read broadcast'), room, privately)
  for (const n of [1, 2, 3]) await sql(`select realtime.send('{"n": ${n}}', 'e', '${room}')`)
  const [first] = await witness.events.of(3)
  const replay = options(first, since)
  const late = await join(await member(t, vsn, 'read broadcast'), room, { private: true, broadcast: { replay } })
  await sql(`select realtime.send('{"n": 4}', 'e', '${room}')`)
  const events = await late.events.of(3)
  assert.deepEqual(events.map(({ payload, meta }) => [payload.n, meta.replayed]), [[2, true], [3, true], [4, undefined]])
}

feature('private: replay since a time', (t, vsn) => replayed(t, vsn, (_, since) => ({ since, limit: 2 })), { without })

feature('private: replay after a message', (t, vsn) => replayed(t, vsn, ({ meta }) => ({ after: meta.id })), { without })

feature('private: a replay that makes no sense is refused', async (t, vsn) => {
  const replay = { limit: 2 }
  const reason = /UnableToReplayMessages: Replay params are not valid/
  const config = { private: true, broadcast: { replay } }
  await refused(await member(t, vsn, ...all), `private:${randomUUID()}`, config, reason)
}, { without })

feature('private: over HTTP', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const reader = await join(await member(t, vsn, 'read broadcast'), room, privately)
  // The reference says yes to both, and drops what may not be written.
  assert.equal(await send(await unjoined(t, vsn, room, 'read broadcast'), { n: 1 }), 'ok')
  assert.equal(await send(await unjoined(t, vsn, room, 'write broadcast'), { n: 2 }), 'ok')
  const [event] = await reader.events.of(1)
  assert.equal(event.payload.n, 2)
}, { without: [lacks.httpPrivate] })

feature('private: httpSend()', async (t, vsn) => {
  const room = `private:${randomUUID()}`
  const reader = await join(await member(t, vsn, 'read broadcast'), room, privately)
  const { channel } = await unjoined(t, vsn, room, 'write broadcast')
  assert.deepEqual(await channel.httpSend('e', { n: 1 }), { success: true })
  const [event] = await reader.events.of(1)
  assert.equal(event.payload.n, 1)
}, { without: [lacks.httpSend] })

feature('private: httpSend() is refused', async (t, vsn) => {
  const { channel } = await unjoined(t, vsn, `private:${randomUUID()}`, 'read broadcast')
  await assert.rejects(channel.httpSend('e', { n: 1 }), /Unauthorized/)
}, { without: [lacks.httpSend, lacks.single] })

feature('SQL: realtime.broadcast_changes() of a trigger', async (t, vsn) => {
  const [id, room] = [randomUUID(), `private:${randomUUID()}`]
  const { events } = await join(await member(t, vsn, 'read broadcast'), room, privately)
  await sql(`insert into notes values ('${id}', '${room}', 'old');
    update notes set body = 'new' where id = '${id}';
    delete from notes where id = '${id}'`)
  const [before, after] = ['old', 'new'].map((body) => ({ id, room, body }))
  const expected = [['INSERT', before, null], ['UPDATE', after, before], ['DELETE', null, after]]
  const heard = await events.of(3)
  assert.deepEqual(
    heard.map(({ event, payload, meta }) => [event, payload, meta.id]),
    expected.map(([operation, record, old], n) => {
      const { id: message } = heard[n].payload
      return [operation, { id: message, table: 'notes', schema: 'public', operation, record, old_record: old }, message]
    }),
  )
}, { without })
