// Joining, leaving, tokens, lost connections.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentClaims, openConversation, organization, visitorClaims, writeAs } from '../support.js'
import { Arrivals, Cable, connect, feature, join, refresh } from './support.js'

const until = (seconds) => sleep(Math.max(0, seconds * 1000 - Date.now()) + 50)

feature('join a public channel', {}, async (t, vsn) => {
  const client = await connect(t, vsn)
  const { channel } = await join(client, `room:${randomUUID()}`)
  assert.equal(channel.state, 'joined')
})

feature('join a private channel of an organization', {}, async (t, vsn) => {
  const client = await connect(t, vsn)
  const { channel } = await join(client, `org:${organization}:conversations`, { private: true })
  assert.equal(channel.state, 'joined')
})

feature('a refused join tells the reason', {}, async (t, vsn) => {
  const [own, other] = [await openConversation(), await openConversation()]
  const client = await connect(t, vsn, visitorClaims(own))
  const statuses = new Arrivals()
  client.channel(`org:${organization}:conv:${other}`).subscribe((status, error) => statuses.push([status, error?.message]))
  const [[status, reason]] = await statuses.of(1)
  assert.equal(status, 'CHANNEL_ERROR')
  assert.match(reason, /Unauthorized: You do not have permissions to read from this Channel topic/)
  await client.removeAllChannels()
})

feature('postgres_changes is refused with the reason', {}, async (t, vsn) => {
  const client = await connect(t, vsn)
  const statuses = new Arrivals()
  client.channel(`org:${organization}`)
    .on('postgres_changes', { event: '*', schema: 'public', table: 'messages' }, () => {})
    .subscribe((status, error) => statuses.push([status, error?.message]))
  const [[status, reason]] = await statuses.of(1)
  assert.equal(status, 'CHANNEL_ERROR')
  assert.match(reason, /PostgresChangesNotSupported/)
  await client.removeAllChannels()
})

feature('leave and join again', {}, async (t, vsn) => {
  const [client, other] = [await connect(t, vsn), await connect(t, vsn)]
  const room = `room:${randomUUID()}`
  const sender = await join(other, room)
  // Without it, some releases close the socket with their last channel and do not open it again in time.
  await join(client, `room:${randomUUID()}`)
  const first = await join(client, room)
  assert.equal(await client.removeChannel(first.channel), 'ok')
  const second = await join(client, room)
  await sender.channel.send({ type: 'broadcast', event: 'e', payload: { n: 1 } })
  const [event] = await second.events.of(1)
  assert.equal(event.payload.n, 1)
  assert.deepEqual(first.events.all, [])
})

feature('a refreshed token outlives the first', {}, async (t, vsn) => {
  const conversation = await openConversation()
  const exp = Math.floor(Date.now() / 1000) + 4
  const client = await connect(t, vsn, { ...agentClaims(), exp })
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  await refresh(client, agentClaims())
  await until(exp + 1)
  await writeAs(agentClaims(), conversation, 'still here')
  const [event] = await conv.events.of(1)
  assert.equal(event.payload.content, 'still here')
})

feature('an expired token closes its channel and says so', {}, async (t, vsn) => {
  const exp = Math.floor(Date.now() / 1000) + 3
  const client = await connect(t, vsn, { ...agentClaims(), exp })
  const { statuses, systems } = await join(client, `org:${organization}`)
  const [, end] = await statuses.of(2)
  assert.equal(end.status, 'CLOSED')
  const told = systems.all.find(({ status }) => status === 'error')
  assert.match(told.message, /Token has expired/)
  assert.equal(client.realtime.isConnected(), true)
})

const faults = { '2.50.0': 'it tears all channels down when it reconnects' }

feature('a lost connection is made and joined anew', { faults }, async (t, vsn) => {
  const cable = await Cable.lay(t)
  const conversation = await openConversation()
  const client = await connect(t, vsn, agentClaims(), cable.url)
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  cable.cut()
  while (!conv.statuses.all.slice(1).some(({ status }) => status === 'SUBSCRIBED')) {
    await conv.statuses.of(conv.statuses.all.length + 1)
  }
  await writeAs(agentClaims(), conversation, 'after the cut')
  const [event] = await conv.events.of(1)
  assert.equal(event.payload.content, 'after the cut')
})
