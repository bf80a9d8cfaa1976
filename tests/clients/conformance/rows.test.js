// Events of committed rows, and of SQL.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { agentClaims, openConversation, organization, sql, writeAs } from '../support.js'
import { connect, feature, join, lacks } from './support.js'

feature('rows: events', async (t, vsn) => {
  const conversation = await openConversation()
  const client = await connect(t, vsn)
  const list = await join(client, `org:${organization}:conversations`)
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  await writeAs(agentClaims(), conversation, 'hello')
  const [created] = await conv.events.of(1)
  assert.deepEqual([created.event, created.payload.content], ['message:created', 'hello'])
  assert.match(created.meta.id, /^[0-9a-f]{4}\.[0-9a-f]{8}\.[0-9a-f]{16}\.[0-9a-f]{8}$/)
  // Other tests write to the organization as well.
  await list.events.find(({ meta }) => meta.id === created.meta.id)
})

/** Three messages, and what a replay tells of them; `options` get the first one. */
async function replayed(t, vsn, options) {
  const conversation = await openConversation()
  const topic = `org:${organization}:conv:${conversation}`
  const witness = await join(await connect(t, vsn), topic)
  for (const content of ['one', 'two', 'three']) await writeAs(agentClaims(), conversation, content)
  const [first] = await witness.events.of(3)
  const replay = options(first)
  const late = await join(await connect(t, vsn), topic, { private: true, broadcast: { replay } })
  const events = await late.events.of(2)
  assert.deepEqual(events.map(({ payload }) => payload.content), ['two', 'three'])
  assert.deepEqual(events.map(({ meta }) => meta.replayed), [true, true])
}

feature('rows: replay since a time', (t, vsn) => replayed(t, vsn, () => ({ since: Date.now() - 60_000, limit: 2 })))

feature('rows: replay after a position', (t, vsn) => replayed(t, vsn, ({ meta }) => ({ after: meta.id })))

feature('rows: a snapshot, then what is new', async (t, vsn) => {
  const conversation = await openConversation()
  const topic = `org:${organization}:conv:${conversation}`
  for (const content of ['one', 'two', 'three']) await writeAs(agentClaims(), conversation, content)
  const replay = { snapshot: 2 }
  const late = await join(await connect(t, vsn), topic, { private: true, broadcast: { replay } })
  await writeAs(agentClaims(), conversation, 'four')
  const messages = async (count) => {
    await late.events.find(() => late.events.all.filter(({ event }) => event === 'message:created').length >= count)
    return late.events.all.filter(({ event }) => event === 'message:created')
  }
  assert.deepEqual((await messages(3)).map(({ payload }) => payload.content), ['two', 'three', 'four'])
})

feature('SQL: realtime.send()', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { events } = await join(await connect(t, vsn), room)
  await sql(`select realtime.send('{"n": 0}', 'private', '${room}');
    select realtime.send('{"n": 1}', 'public', '${room}', false)`)
  const [event] = await events.of(1)
  assert.deepEqual([event.event, event.payload.n], ['public', 1])
  assert.match(event.meta.id, /^[0-9a-f]{8}-/)
  assert.equal(event.payload.id, event.meta.id)
  assert.match(event.meta.position, /^[0-9a-f]{4}\./)
})

feature('SQL: realtime.send_binary()', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const [two, one] = [await join(await connect(t, vsn), room), await join(await connect(t, '1.0.0'), room)]
  await sql(`select realtime.send_binary('\\xdead00', 'blob', '${room}', false);
    select realtime.send('{"n": 1}', 'e', '${room}', false)`)
  const [blob] = await two.events.of(1)
  assert.deepEqual([...new Uint8Array(blob.payload)], [0xde, 0xad, 0])
  assert.match(blob.meta.id, /^[0-9a-f]{8}-/)
  const [next] = await one.events.of(1)
  assert.equal(next.payload.n, 1)
}, { without: [lacks.bytes], only: ['2.0.0'] })
