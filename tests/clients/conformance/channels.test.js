// Joining and leaving, beats, lost connections.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { agentClaims, openConversation, organization, visitorClaims, writeAs } from '../support.js'
import { Arrivals, Cable, anonymous, connect, feature, join, lacks, refused, send } from './support.js'

feature('channels: join', async (t, vsn) => {
  const { channel } = await join(await connect(t, vsn), `room:${randomUUID()}`)
  assert.equal(channel.state, 'joined')
})

feature('channels: join without a token', async (t, vsn) => {
  const client = anonymous(t, vsn)
  await join(client, `room:${randomUUID()}`)
  await refused(client, `org:${organization}`, {}, /Unauthorized: You do not have permissions to read/)
})

feature('channels: join an organization, public or private', async (t, vsn) => {
  for (const isPrivate of [false, true]) {
    const client = await connect(t, vsn)
    const { channel } = await join(client, `org:${organization}:conversations`, { private: isPrivate })
    assert.equal(channel.state, 'joined')
  }
})

feature('channels: a refused join tells the reason', async (t, vsn) => {
  const [own, other] = [await openConversation(), await openConversation()]
  const client = await connect(t, vsn, visitorClaims(own))
  const reason = /Unauthorized: You do not have permissions to read from this Channel topic/
  await refused(client, `org:${organization}:conv:${other}`, {}, reason)
})

feature('channels: a name that is empty is refused', async (t, vsn) => {
  await refused(await connect(t, vsn), '', {}, /TopicNameRequired: You must provide a topic name/)
})

feature('channels: postgres_changes is refused with the reason', async (t, vsn) => {
  await refused(await connect(t, vsn), `org:${organization}`, {}, /PostgresChangesNotSupported/, (channel) => {
    channel.on('postgres_changes', { event: '*', schema: 'public', table: 'messages' }, () => {})
  })
})

feature('channels: one topic twice', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  const client = await connect(t, vsn)
  const first = await join(client, room)
  const again = client.channel(room)
  // Newer releases give the channel that there is; older ones join once more, and the second takes over.
  const second = again === first.channel ? first : { channel: again, events: new Arrivals() }
  if (second !== first) {
    again.on('broadcast', { event: '*' }, (message) => second.events.push(message))
    const joined = new Arrivals()
    again.subscribe((status) => joined.push(status))
    assert.deepEqual(await joined.of(1), ['SUBSCRIBED'])
  }
  await send(sender, { n: 1 })
  await send(sender, { n: 2 })
  const events = await second.events.of(2)
  assert.deepEqual(events.map(({ payload }) => payload.n), [1, 2])
  if (second !== first) assert.deepEqual(first.events.all, [])
})

feature('channels: leave and join again', async (t, vsn) => {
  const client = await connect(t, vsn)
  const room = `room:${randomUUID()}`
  const sender = await join(await connect(t, vsn), room)
  // Without it, some releases close the socket with their last channel and do not open it again in time.
  await join(client, `room:${randomUUID()}`)
  const leave = [(channel) => client.removeChannel(channel), (channel) => channel.unsubscribe()]
  const left = []
  for (const [n, part] of leave.entries()) {
    const joined = await join(client, room)
    await send(sender, { n })
    const [event] = await joined.events.of(1)
    assert.equal(event.payload.n, n)
    assert.equal(await part(joined.channel), 'ok')
    left.push(joined)
  }
  const last = await join(client, room)
  await send(sender, { n: 9 })
  const [event] = await last.events.of(1)
  assert.equal(event.payload.n, 9)
  assert.deepEqual(left.map(({ events }) => events.all.length), [1, 1])
})

feature('channels: replication_ready', async (t, vsn) => {
  const room = `room:${randomUUID()}`
  const { systems } = await join(await connect(t, vsn), room, { broadcast: { replication_ready: true } })
  const [{ status, message, extension, channel }] = await systems.of(1)
  assert.deepEqual({ status, message, extension, channel }, {
    status: 'ok', message: 'Replication connection established', extension: 'system', channel: room,
  })
})

feature('channels: heartbeats are answered', async (t, vsn) => {
  const answers = new Arrivals()
  // The one place where every release tells of them. One that is not answered before the next is due would end the
  // connection, so the interval is one that a busy machine keeps.
  const logger = (kind, text) => {
    if (kind === 'receive' && /phoenix phx_reply/.test(text)) answers.push(text)
  }
  const client = await connect(t, vsn, undefined, { realtime: { heartbeatIntervalMs: 3000, logger } })
  const { statuses } = await join(client, `room:${randomUUID()}`)
  await answers.of(2)
  assert.equal(client.realtime.isConnected(), true)
  assert.equal(statuses.all.length, 1)
})

feature('channels: a lost connection is made and joined anew', async (t, vsn) => {
  const cable = await Cable.lay(t)
  const conversation = await openConversation()
  const client = await connect(t, vsn, agentClaims(), { url: cable.url })
  const conv = await join(client, `org:${organization}:conv:${conversation}`)
  cable.cut()
  await conv.statuses.find(({ status }) => status === 'SUBSCRIBED', 1)
  await writeAs(agentClaims(), conversation, 'after the cut')
  const [event] = await conv.events.of(1)
  assert.equal(event.payload.content, 'after the cut')
}, { without: [lacks.rejoin] })

feature('channels: a relay that is away for a while is found again', async (t, vsn) => {
  const cable = await Cable.lay(t)
  const client = await connect(t, vsn, agentClaims(), { url: cable.url })
  const { statuses } = await join(client, `org:${organization}:conversations`)
  cable.isDead = true
  cable.cut()
  await cable.refused.of(1)
  cable.isDead = false
  await statuses.find(({ status }) => status === 'SUBSCRIBED', 1)
}, { without: [lacks.rejoin, lacks.failures] })
