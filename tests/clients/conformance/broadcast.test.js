// Events from client to client over sockets.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { connect, feature, join, lacks, send, serializations } from './support.js'

const bytes = (...values) => new Uint8Array(values).buffer

feature('broadcast: from client to client', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  const receiver = await join(await connect(t, vsn), room)
  assert.equal(await send(sender, { x: 3, s: 'ü👋' }, 'cursor'), 'ok')
  await send(receiver, {}, 'fence')
  const [event] = await receiver.events.of(1)
  assert.deepEqual([event.event, event.payload], ['cursor', { x: 3, s: 'ü👋' }])
  // Its own did not come before the other's.
  const [fence] = await sender.events.of(1)
  assert.equal(fence.event, 'fence')
})

feature('broadcast: ack and self', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const own = await join(await connect(t, vsn), room, { broadcast: { ack: true, self: true } })
  const other = await join(await connect(t, vsn), room, { broadcast: { ack: true } })
  assert.equal(await send(own, { n: 1 }), 'ok')
  assert.equal(await send(other, { n: 2 }), 'ok')
  assert.equal(await send(own, { n: 3 }), 'ok')
  const heard = async ({ events }, count) => (await events.of(count)).map(({ payload }) => payload.n)
  assert.deepEqual(await heard(own, 3), [1, 2, 3])
  assert.deepEqual(await heard(other, 2), [1, 3])
})

feature('broadcast: what is too large is refused', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room, { broadcast: { ack: true } })
  const receiver = await join(await connect(t, vsn), room)
  assert.equal(await send(sender, { text: 'x'.repeat(3_100_000) }), 'error')
  assert.equal(await send(sender, { n: 1 }), 'ok')
  const [event] = await receiver.events.of(1)
  assert.deepEqual(event.payload, { n: 1 })
}, { without: [lacks.pushErrors] })

feature('broadcast: what is too much is refused', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room, { broadcast: { ack: true } })
  const receiver = await join(await connect(t, vsn), room)
  const answers = await Promise.all(Array.from({ length: 300 }, (_, n) => send(sender, { n })))
  const accepted = answers.flatMap((answer, n) => (answer === 'ok' ? [n] : []))
  // A hundred at once, of which joins, tokens and beats of the client itself take a few.
  assert.ok(accepted.length >= 90 && answers.includes('error'), `${accepted.length} accepted`)
  // The receiver loses nothing that was accepted, and stays.
  const events = await receiver.events.of(accepted.length)
  assert.deepEqual(events.map(({ payload }) => payload.n), accepted)
  assert.equal(receiver.statuses.all.length, 1)
}, { without: [lacks.pushErrors] })

feature('broadcast: bytes', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  const receiver = await join(await connect(t, vsn), room)
  const text = await join(await connect(t, '1.0.0'), room)
  await send(sender, bytes(0xde, 0xad, 0), 'blob')
  await send(sender, { n: 1 })
  const [event] = await receiver.events.of(1)
  assert.deepEqual([...new Uint8Array(event.payload)], [0xde, 0xad, 0])
  // It cannot be said in the other serialization.
  const [next] = await text.events.of(1)
  assert.deepEqual(next.payload, { n: 1 })
}, { without: [lacks.bytes], only: ['2.0.0'] })

feature('broadcast: to the other serialization', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  const receiver = await join(await connect(t, serializations.find((other) => other !== vsn)), room)
  await send(sender, { s: 'ü👋' }, 'cursor')
  const [{ type, event, payload }] = await receiver.events.of(1)
  assert.deepEqual({ type, event, payload }, { type: 'broadcast', event: 'cursor', payload: { s: 'ü👋' } })
}, { without: [lacks.both] })
