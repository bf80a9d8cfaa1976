// Broadcasts over HTTP.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { agentClaims } from '../support.js'
import { connect, feature, join, lacks, send } from './support.js'

feature('HTTP: send() before the join', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { events } = await join(await connect(t, vsn), room)
  const channel = (await connect(t, vsn)).channel(room)
  assert.equal(await send({ channel }, { n: 1 }), 'ok')
  const [event] = await events.of(1)
  assert.deepEqual(event.payload, { n: 1 })
})

feature('HTTP: an expired token is refused', async (t, vsn) => {
  const client = await connect(t, vsn, { ...agentClaims(), exp: Math.floor(Date.now() / 1000) - 60 })
  assert.equal(await send({ channel: client.channel(`room:${randomUUID()}`) }, { n: 1 }), 'error')
}, { without: [lacks.httpToken] })

feature('HTTP: httpSend()', async (t, vsn) => {
  const room = `room/a b:${randomUUID()}`
  const { events } = await join(await connect(t, vsn), room)
  const channel = (await connect(t, vsn)).channel(room)
  assert.deepEqual(await channel.httpSend('e/ü', { n: 1 }), { success: true })
  const [event] = await events.of(1)
  assert.deepEqual([event.event, event.payload], ['e/ü', { n: 1 }])
}, { without: [lacks.httpSend] })

feature('HTTP: httpSend() of bytes', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const [two, one] = [await join(await connect(t, vsn), room), await join(await connect(t, '1.0.0'), room)]
  const channel = (await connect(t, vsn)).channel(room)
  assert.deepEqual(await channel.httpSend('blob', new Uint8Array([0xde, 0xad, 0])), { success: true })
  await channel.httpSend('e', { n: 1 })
  const [blob] = await two.events.of(1)
  assert.deepEqual([...new Uint8Array(blob.payload)], [0xde, 0xad, 0])
  const [next] = await one.events.of(1)
  assert.deepEqual(next.payload, { n: 1 })
}, { without: [lacks.httpSend, lacks.single, lacks.bytes], only: ['2.0.0'] })
