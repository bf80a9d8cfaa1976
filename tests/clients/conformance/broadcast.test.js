// Events: from client to client, of rows, and of SQL.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { agentClaims, openConversation, organization, sql, writeAs } from '../support.js'
import { connect, feature, join } from './support.js'

feature('broadcast from client to client', {}, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  const receiver = await join(await connect(t, vsn), room)
  assert.equal(await sender.channel.send({ type: 'broadcast', event: 'cursor', payload: { x: 3, s: 'ü👋' } }), 'ok')
  await receiver.channel.send({ type: 'broadcast', event: 'fence', payload: {} })
  const [event] = await receiver.events.of(1)
  assert.deepEqual([event.event, event.payload], ['cursor', { x: 3, s: 'ü👋' }])
  // Its own did not come before the other's.
  const [fence] = await sender.events.of(1)
  assert.equal(fence.event, 'fence')
})

feature('broadcast with ack and self', {}, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { channel, events } = await join(await connect(t, vsn), room, { broadcast: { ack: true, self: true } })
  assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: { n: 1 } }), 'ok')
  const [event] = await events.of(1)
  assert.deepEqual(event.payload, { n: 1 })
})

feature('binary broadcast', { only: '2.0.0' }, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  const receiver = await join(await connect(t, vsn), room)
  await sender.channel.send({ type: 'broadcast', event: 'blob', payload: new Uint8Array([0xde, 0xad, 0]).buffer })
  const [event] = await receiver.events.of(1)
  assert.deepEqual([...new Uint8Array(event.payload)], [0xde, 0xad, 0])
})

feature('events of committed rows', {}, async (t, vsn) => {
  const conversation = await openConversation()
  const client = await connect(t, vsn)
  const list = await join(client, `org:${organization}:conversations`)
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  await writeAs(agentClaims(), conversation, 'hello')
  const [created] = await conv.events.of(1)
  assert.deepEqual([created.event, created.payload.content], ['message:created', 'hello'])
  assert.match(created.meta.id, /^[0-9a-f]{4}\.[0-9a-f]{8}\.[0-9a-f]{16}\.[0-9a-f]{8}$/)
  // Other tests write to the organization as well.
  const isListed = () => list.events.all.some(({ meta }) => meta.id === created.meta.id)
  while (!isListed()) await list.events.of(list.events.all.length + 1)
})

feature('replay of row events', {}, async (t, vsn) => {
  const conversation = await openConversation()
  const topic = `org:${organization}:conv:${conversation}`
  const since = Date.now() - 60_000
  const witness = await join(await connect(t, vsn), topic)
  for (const content of ['one', 'two', 'three']) await writeAs(agentClaims(), conversation, content)
  await witness.events.of(3)
  const late = await join(await connect(t, vsn), topic, { private: true, broadcast: { replay: { since, limit: 2 } } })
  const events = await late.events.of(2)
  assert.deepEqual(events.map(({ payload }) => payload.content), ['two', 'three'])
  assert.deepEqual(events.map(({ meta }) => meta.replayed), [true, true])
})

feature('realtime.send()', {}, async (t, vsn) => {
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

feature('realtime.send_binary()', { only: '2.0.0' }, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { events } = await join(await connect(t, vsn), room)
  await sql(`select realtime.send_binary('\\xdead00', 'blob', '${room}', false)`)
  const [event] = await events.of(1)
  assert.deepEqual([...new Uint8Array(event.payload)], [0xde, 0xad, 0])
})
