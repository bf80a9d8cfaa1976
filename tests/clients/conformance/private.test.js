// Private channels that policies on realtime.messages decide, and broadcasts over HTTP.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { sql } from '../support.js'
import { Arrivals, connect, feature, join } from './support.js'

/** A room that agents may read and write. */
async function privateRoom() {
  const room = `private:${randomUUID()}`
  await sql(`create policy "read ${room}" on realtime.messages for select to authenticated using (realtime.topic() = '${room}');
    create policy "write ${room}" on realtime.messages for insert to authenticated with check (realtime.topic() = '${room}')`)
  return room
}

feature('a private channel that a policy allows', {}, async (t, vsn) => {
  const room = await privateRoom()
  const [one, other] = [await connect(t, vsn), await connect(t, vsn)]
  const sender = await join(one, room, { private: true, broadcast: { ack: true } })
  const receiver = await join(other, room, { private: true })
  assert.equal(await sender.channel.send({ type: 'broadcast', event: 'e', payload: { n: 1 } }), 'ok')
  await sql(`select realtime.send('{"n": 2}', 'e', '${room}')`)
  const events = await receiver.events.of(2)
  assert.deepEqual(events.map(({ payload }) => payload.n), [1, 2])
  assert.match(events[1].meta.id, /^[0-9a-f]{8}-/)
})

feature('a private channel that no policy allows', {}, async (t, vsn) => {
  const client = await connect(t, vsn)
  const statuses = new Arrivals()
  client.channel(`private:${randomUUID()}`, { config: { private: true } })
    .subscribe((status, error) => statuses.push([status, error?.message]))
  const [[status, reason]] = await statuses.of(1)
  assert.equal(status, 'CHANNEL_ERROR')
  assert.match(reason, /Unauthorized: You do not have permissions to read from this Channel topic/)
  await client.removeAllChannels()
})

feature('broadcast over HTTP before the join', {}, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { events } = await join(await connect(t, vsn), room)
  const channel = (await connect(t, vsn)).channel(room)
  assert.equal(await channel.send({ type: 'broadcast', event: 'e', payload: { n: 1 } }), 'ok')
  const [event] = await events.of(1)
  assert.deepEqual(event.payload, { n: 1 })
})

feature('httpSend()', { needs: 'httpSend' }, async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { events } = await join(await connect(t, vsn), room)
  const channel = (await connect(t, vsn)).channel(room)
  assert.deepEqual(await channel.httpSend('e', { n: 1 }), { success: true })
  const [event] = await events.of(1)
  assert.deepEqual(event.payload, { n: 1 })
})
