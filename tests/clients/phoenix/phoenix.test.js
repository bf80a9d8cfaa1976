// phoenix.js, the client of the Phoenix framework itself, as far as it goes: it knows channels and presence, and nothing
// of broadcasts or tokens, which are plain events to it.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { appendFileSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { Presence, Socket } from 'phoenix'
import ws from 'ws'
import { Arrivals, Cable } from '../conformance/support.js'
import { agentClaims, apiKey, openConversation, organization, relay, sign, writeAs } from '../support.js'

const main = createRequire(import.meta.url).resolve('phoenix')
const { version } = JSON.parse(readFileSync(`${main.slice(0, main.lastIndexOf('/phoenix/'))}/phoenix/package.json`))

/**
 * What makes it speak serialization 1.0.0: its option `vsn` changes the address alone. On its own, 2.0.0, broadcasts
 * come in a binary frame of a kind that it does not know.
 */
const first = {
  vsn: '1.0.0',
  encode: (message, done) => done(JSON.stringify(message)),
  decode: (text, done) => done(JSON.parse(text)),
}

function feature(title, run) {
  test(`${version}: ${title}`, { timeout: 60_000 }, async (t) => {
    await run(t)
    if (process.env.CAMPFIRE_CONFORMANCE) {
      const line = { client: 'phoenix.js', version, vsn: '1.0.0', feature: title }
      appendFileSync(process.env.CAMPFIRE_CONFORMANCE, `${JSON.stringify(line)}\n`)
    }
  })
}

function connect(t, { url = relay, ...options } = {}) {
  // It appends `/websocket` by itself.
  const address = `${url.replace(/^http/, 'ws')}/realtime/v1`
  const socket = new Socket(address, { transport: ws, params: { apikey: apiKey }, ...first, ...options })
  socket.connect()
  t.after(() => socket.disconnect())
  return socket
}

/** Joins, with the token in the payload. `events` gets every broadcast. */
function subscribe(socket, name, config = {}) {
  const channel = socket.channel(`realtime:${name}`, { config, access_token: sign(agentClaims()) })
  const [events, answers] = [new Arrivals(), new Arrivals()]
  channel.on('broadcast', (message) => events.push(message))
  const push = channel.join()
  for (const status of ['ok', 'error']) push.receive(status, (response) => answers.push([status, response]))
  return { channel, events, answers }
}

async function join(socket, name, config) {
  const joined = subscribe(socket, name, config)
  assert.deepEqual((await joined.answers.of(1))[0][0], 'ok')
  return joined
}

feature('channels: join', async (t) => {
  const { channel } = await join(connect(t), `room:${randomUUID()}`)
  assert.equal(channel.state, 'joined')
})

feature('channels: a refused join tells the reason', async (t) => {
  const { answers } = subscribe(connect(t), `org:${randomUUID()}`)
  const [[status, { reason }]] = await answers.of(1)
  assert.equal(status, 'error')
  assert.match(reason, /^Unauthorized: /)
})

feature('channels: heartbeats are answered', async (t) => {
  const answers = new Arrivals()
  const socket = connect(t, { heartbeatIntervalMs: 3000 })
  socket.onMessage(({ topic, event }) => topic === 'phoenix' && event === 'phx_reply' && answers.push(event))
  await answers.of(2)
  assert.ok(socket.isConnected())
})

feature('channels: leave and join again', async (t) => {
  const socket = connect(t)
  const name = `room:${randomUUID()}`
  const { channel } = await join(socket, name)
  const closed = new Arrivals()
  socket.onMessage(({ topic, event }) => topic === channel.topic && event === 'phx_close' && closed.push(event))
  channel.leave()
  // 1.0.0 has no join_ref, without which it takes the end of the old channel for that of the new one.
  await closed.of(1)
  await join(socket, name)
})

feature('channels: a lost connection is made and joined anew', async (t) => {
  const cable = await Cable.lay(t)
  const { answers } = await join(connect(t, { url: cable.url }), `org:${organization}:conversations`)
  cable.cut()
  assert.equal((await answers.of(2))[1][0], 'ok')
})

feature('channels: a relay that is away for a while is found again', async (t) => {
  const cable = await Cable.lay(t)
  const { answers } = await join(connect(t, { url: cable.url }), `org:${organization}:conversations`)
  cable.isDead = true
  cable.cut()
  await cable.refused.of(1)
  cable.isDead = false
  assert.equal((await answers.of(2))[1][0], 'ok')
})

feature('rows: events', async (t) => {
  const conversation = await openConversation()
  const { events } = await join(connect(t), `org:${organization}:conv:${conversation}`)
  await writeAs(agentClaims(), conversation, 'hello')
  const [{ event, payload, meta }] = await events.of(1)
  assert.deepEqual([event, payload.content], ['message:created', 'hello'])
  assert.match(meta.id, /^[0-9a-f]{4}\.[0-9a-f]{8}\.[0-9a-f]{16}\.[0-9a-f]{8}$/)
})

feature('rows: replay after a position', async (t) => {
  const conversation = await openConversation()
  const name = `org:${organization}:conv:${conversation}`
  const witness = await join(connect(t), name)
  for (const content of ['one', 'two', 'three']) await writeAs(agentClaims(), conversation, content)
  const [{ meta }] = await witness.events.of(3)
  const { events, answers } = await join(connect(t), name, { broadcast: { replay: { after: meta.id } } })
  const [[, { replay }]] = await answers.of(1)
  assert.deepEqual([replay.complete, replay.count], [true, 2])
  assert.deepEqual((await events.of(2)).map(({ payload }) => payload.content), ['two', 'three'])
})

feature('broadcast: from client to client', async (t) => {
  const name = `room:${randomUUID()}`
  const { events } = await join(connect(t), name)
  const { channel } = await join(connect(t), name)
  channel.push('broadcast', { type: 'broadcast', event: 'e', payload: { n: 1 } })
  const [{ event, payload }] = await events.of(1)
  assert.deepEqual([event, payload], ['e', { n: 1 }])
})

feature('broadcast: ack and self', async (t) => {
  const { channel, events } = await join(connect(t), `room:${randomUUID()}`, { broadcast: { ack: true, self: true } })
  const acks = new Arrivals()
  channel.push('broadcast', { type: 'broadcast', event: 'e', payload: {} }).receive('ok', () => acks.push('ok'))
  await acks.of(1)
  await events.of(1)
})

feature('presence: come, untrack, leave', async (t) => {
  const name = `room:${randomUUID()}`
  const states = new Arrivals()
  const config = (key) => ({ presence: { key, enabled: true } })
  const ann = subscribe(connect(t), name, config('ann'))
  const presence = new Presence(ann.channel)
  presence.onSync(() => states.push(presence.list((key) => key)))
  assert.deepEqual(await states.of(1), [[]])
  const bob = await join(connect(t), name, config('bob'))
  bob.channel.push('presence', { type: 'presence', event: 'track', payload: { name: 'Bob' } })
  assert.deepEqual((await states.of(2))[1], ['bob'])
  bob.channel.push('presence', { type: 'presence', event: 'untrack' })
  assert.deepEqual((await states.of(3))[2], [])
})

feature('tokens: a new one outlives the first', async (t) => {
  const { channel, events } = await join(connect(t), `org:${organization}:conversations`)
  const conversation = await openConversation()
  channel.push('access_token', { access_token: sign({ ...agentClaims(), jti: randomUUID() }) })
  await writeAs(agentClaims(), conversation, 'renewed')
  await events.find(({ payload }) => payload.content === 'renewed')
})
