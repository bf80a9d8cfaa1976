// What is relied on of the stock client, against the version that is installed: by its
// type declarations, and by its behaviour on a socket that only plays one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { at, NAME, setUp } from './socket.js'

test('the first join has the token, is private, and asks for a position', async (t) => {
  const { campfire, opened } = setUp(t)
  campfire.channel(NAME).subscribe()
  const payload = await (await opened).join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.equal(payload.access_token, 'token')
  assert.equal(payload.config.private, true)
  assert.deepEqual(payload.config.broadcast.replay, {})
  assert.equal(campfire.channel(NAME).status, 'joined')
})

test('the join after a cut has the whole config, with the last position', async (t) => {
  const { campfire, opened, nextSocket } = setUp(t)
  const channel = campfire.channel(NAME, { presence: { key: 'ada' }, broadcast: { ack: true } }).subscribe()
  const first = await opened
  const { config } = await first.join({ replay: { complete: true, position: at(5), count: 0 } })
  first.row(7)
  assert.equal(channel.position, at(7))
  const again = nextSocket()
  first.close(1013)
  assert.equal(channel.status, 'reconnecting')
  const payload = await (await again).join({ replay: { complete: true, position: at(9), count: 0 } })
  assert.deepEqual(payload.config, {
    ...config, broadcast: { ...config.broadcast, replay: { after: at(7) } },
  })
  assert.equal(payload.config.presence.key, 'ada')
  assert.equal(payload.access_token, 'token')
  assert.equal(channel.position, at(9))
})

test("a heartbeat's reply moves the position", async (t) => {
  const { client, campfire, opened } = setUp(t)
  const channel = campfire.channel(NAME).subscribe()
  const socket = await opened
  await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  await client.sendHeartbeat()
  const [, ref] = await socket.next('heartbeat')
  socket.say(null, ref, 'phoenix', 'phx_reply', { status: 'ok', response: { position: at(6) } })
  assert.equal(channel.position, at(6))
})

test('events are delivered once, to the listeners of their name and to those of all', async (t) => {
  const { campfire, opened } = setUp(t)
  const heard: string[] = []
  const note = (label: string) => ({ payload, replayed }: any) => heard.push(`${label}${payload.number}${replayed ? 'r' : ''}`)
  campfire.channel(NAME)
    .on('message:created', note('named ')).on('*', note('all ')).on('message:deleted', note('other ')).subscribe()
  const socket = await opened
  await socket.join({ replay: { complete: true, position: at(6), count: 1 } })
  socket.row(6, { replayed: true })
  socket.row(6)
  socket.row(7)
  assert.deepEqual(heard, ['named 6r', 'all 6r', 'named 7', 'all 7'])
})

test('an incomplete join is told once, and a loss later on too', async (t) => {
  const told: string[] = []
  const { campfire, opened } = setUp(t, { onIncomplete: (_, reason) => told.push(reason) })
  const channel = campfire.channel(NAME).subscribe()
  const socket = await opened
  await socket.join({ replay: { complete: false, position: at(5), count: 0 } })
  const loss = { extension: 'system', status: 'ok', message: 'ReplayIncomplete: …', channel: NAME }
  socket.say(null, null, `realtime:${NAME}`, 'system', loss)
  assert.equal(told.length, 1)
  assert.equal(channel.position, at(5))
  socket.say(null, null, `realtime:${NAME}`, 'system', loss)
  assert.equal(told.length, 2)
  assert.equal(channel.position, at(5), 'an older relay names no position')
  socket.say(null, null, `realtime:${NAME}`, 'system', { ...loss, position: at(8) })
  assert.equal(told.length, 3)
  assert.equal(channel.position, at(8))
})

test('what follows an incomplete join begins at the position of its notice', async (t) => {
  const told: string[] = []
  const { campfire, opened } = setUp(t, { onIncomplete: (_, reason) => told.push(reason) })
  const channel = campfire.channel(NAME).subscribe()
  const socket = await opened
  await socket.join({ replay: { complete: false, position: at(9), count: 2 } })
  const notice = { extension: 'system', status: 'ok', message: 'ReplayIncomplete: …', channel: NAME, position: at(6) }
  socket.say(null, null, `realtime:${NAME}`, 'system', notice)
  assert.equal(channel.position, at(6))
  socket.row(7, { replayed: true })
  socket.row(8, { replayed: true })
  assert.equal(channel.position, at(9))
  assert.equal(told.length, 1)
})

test('a refused join says why and is tried again with another token, not at once', async (t) => {
  let tokens = 0
  const { campfire, opened } = setUp(t, { getToken: () => `token ${(tokens += 1)}` })
  const statuses: string[] = []
  campfire.channel(NAME).subscribe((status, error) => statuses.push(`${status} ${error?.message ?? ''}`))
  const socket = await opened
  const [joinRef, ref, topic] = await socket.next('phx_join')
  socket.say(joinRef, ref, topic, 'phx_reply', { status: 'error', response: { reason: 'Unauthorized: no' } })
  assert.deepEqual(statuses, ['joining ', 'refused Unauthorized: no'])
  const payload = await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.equal(payload.access_token, 'token 2')
  assert.deepEqual(statuses.slice(2), ['joined '])
})

test('a channel that the relay closes comes back with its listeners and its position', async (t) => {
  const { campfire, opened } = setUp(t)
  const heard: number[] = []
  const statuses: string[] = []
  const attached: object[] = []
  campfire.channel(NAME, { attach: (channel) => attached.push(channel) })
    .on('message:created', ({ payload }) => heard.push(payload.number))
    .subscribe((status, error) => statuses.push(`${status} ${error?.message ?? ''}`))
  const socket = await opened
  await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  socket.row(6)
  const system = { extension: 'system', status: 'error', message: 'Token has expired', channel: NAME }
  socket.say(null, null, `realtime:${NAME}`, 'system', system)
  socket.say(null, null, `realtime:${NAME}`, 'phx_close', {})
  const payload = await socket.join({ replay: { complete: true, position: at(7), count: 1 } })
  assert.deepEqual(payload.config.broadcast.replay, { after: at(6) })
  socket.row(7, { replayed: true })
  assert.deepEqual(heard, [6, 7])
  assert.deepEqual(statuses, ['joining ', 'joined ', 'reconnecting Token has expired', 'joined '])
  assert.equal(new Set(attached).size, 2)
})

test('an unsubscribed channel stays closed, and resumes when subscribed again', async (t) => {
  const { campfire, opened } = setUp(t)
  const channel = campfire.channel(NAME).subscribe()
  const socket = await opened
  await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  await channel.unsubscribe()
  assert.equal(channel.status, 'closed')
  assert.equal(await channel.send('typing:start'), 'error')
  channel.subscribe()
  const payload = await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.deepEqual(payload.config.broadcast.replay, { after: at(5) })
})

test('channels that are subscribed at once all join with the token', async (t) => {
  const { campfire, opened } = setUp(t, {
    getToken: () => new Promise((resolve) => setImmediate(() => resolve('late token'))),
  })
  const names = ['conversations', 'conv:1', 'conv:2'].map((scope) => `${NAME}:${scope}`)
  for (const name of names) campfire.channel(name).subscribe()
  const socket = await opened
  for (const _ of names) assert.equal((await socket.next('phx_join'))[4].access_token, 'late token')
})

test('a token that the application sets meanwhile does not get into the join', async (t) => {
  const { client, campfire, opened } = setUp(t)
  // As supabase-js does when it is made: it voids the setAuth() that was awaited.
  const ours = client.accessToken!
  let isFirst = true
  client.accessToken = async () => {
    const token = await ours()
    if (isFirst) void client.setAuth('other')
    isFirst = false
    return token
  }
  campfire.channel(NAME).subscribe()
  assert.equal((await (await opened).next('phx_join'))[4].access_token, 'token')
})

test('without a token nothing is joined; it is asked for again, and the reason told', async (t) => {
  let calls = 0
  const { campfire, opened } = setUp(t, {
    getToken: () => {
      calls += 1
      if (calls === 1) throw new Error('signed out')
      return 'token'
    },
  })
  const statuses: string[] = []
  campfire.channel(NAME).subscribe((status, error) => statuses.push(`${status} ${error?.message ?? ''}`))
  const socket = await opened
  const [, , , , payload] = await socket.next('phx_join')
  assert.equal(payload.access_token, 'token')
  assert.deepEqual(statuses, ['joining ', 'reconnecting signed out'])
})

test('a name that the application has opened by itself is refused', async (t) => {
  const { client, campfire } = setUp(t)
  client.channel(NAME)
  const error = await new Promise<Error | undefined>((resolve) => {
    campfire.channel(NAME).subscribe((status, reason) => status === 'refused' && resolve(reason))
  })
  assert.match(error!.message, /already open/)
})

test('positions are read from the storage and written to it', async (t) => {
  const kept = new Map([[`campfire:position:${NAME}`, at(3)], [`campfire:position:${NAME}:conv:1`, 'nonsense']])
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  }
  const { campfire, opened } = setUp(t, { storage })
  campfire.channel(`bcast:${NAME}`).subscribe()
  const socket = await opened
  const payload = await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.deepEqual(payload.config.broadcast.replay, { after: at(3) })
  assert.equal(kept.get(`campfire:position:${NAME}`), at(5))
  assert.equal(campfire.channel(`${NAME}:conv:1`).position, null)
})

test('a listener that throws keeps nobody else from the event', async (t) => {
  const { campfire, opened } = setUp(t)
  const heard: number[] = []
  const channel = campfire.channel(NAME)
    .on('*', () => { throw new Error("the application's own") })
    .on('*', ({ payload }) => heard.push(payload.number)).subscribe()
  const socket = await opened
  await socket.join({ replay: { complete: true, position: at(5), count: 0 } })
  const later = t.mock.method(globalThis, 'queueMicrotask', () => {})
  socket.row(6)
  assert.deepEqual(heard, [6])
  assert.equal(channel.position, at(6))
  // It is not swallowed: it is thrown where nothing of ours is on the stack.
  assert.throws(later.mock.calls[0]!.arguments[0]!, /the application's own/)
})

test('outside organizations nothing is asked of the replay', async (t) => {
  const { campfire, opened } = setUp(t)
  const channel = campfire.channel('room:1').subscribe()
  const payload = await (await opened).join({})
  assert.ok(!('replay' in payload.config.broadcast))
  assert.equal(channel.status, 'joined')
  assert.equal(channel.position, null)
})

test('a private channel resumes if it is said to', async (t) => {
  const { campfire, opened, nextSocket } = setUp(t)
  const channel = campfire.channel('shop:7', { resume: true }).subscribe()
  const first = await opened
  const { config } = await first.join({ replay: { complete: true, position: at(5), count: 0 } })
  assert.deepEqual([config.private, config.broadcast.replay], [true, {}])
  assert.equal(channel.position, at(5))
  const again = nextSocket()
  first.close(1013)
  const payload = await (await again).join({ replay: { complete: true, position: at(6), count: 0 } })
  assert.deepEqual(payload.config.broadcast.replay, { after: at(5) })
})

test('a channel with a snapshot begins with rows, goes on from there, and begins anew after a gap', async (t) => {
  const told: string[] = []
  const kept = new Map([[`campfire:position:${NAME}`, at(3)]])
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  }
  const { campfire, opened, nextSocket } = setUp(t, { storage, onIncomplete: (_, reason) => told.push(reason) })
  const heard: string[] = []
  const channel = campfire.channel(NAME, { snapshot: 50 })
    .on('*', ({ payload, replayed, snapshot }) => heard.push(`${payload.number}${replayed ? 'r' : ''}${snapshot ? 's' : ''}`))
    .subscribe()
  const replay = (payload: any) => payload.config.broadcast.replay
  const row = (socket: typeof first, number: number) => socket.row(number, { id: undefined, replayed: true, snapshot: true })
  const first = await opened
  const asked = await first.join({ replay: { complete: true, position: at(9), count: 2 } })
  assert.deepEqual(replay(asked), { snapshot: 50 }, 'the page has lost its rows')
  row(first, 1)
  assert.equal(channel.position, null)
  // Cut before all of it came.
  let again = nextSocket()
  first.close(1013)
  const second = await again
  assert.deepEqual(replay(await second.join({ replay: { complete: true, position: at(9), count: 2 } })), { snapshot: 50 })
  row(second, 1)
  second.row(8, { replayed: true })
  assert.equal(channel.position, at(9))
  second.row(10)
  again = nextSocket()
  second.close(1013)
  const third = await again
  assert.deepEqual(replay(await third.join({ replay: { complete: false, position: at(20), count: 0 } })), { after: at(10) })
  assert.equal(told.length, 1)
  assert.deepEqual(replay(await third.join({ replay: { complete: true, position: at(20), count: 1 } })), { snapshot: 50 })
  row(third, 1)
  assert.equal(channel.position, at(20))
  const loss = { extension: 'system', status: 'ok', message: 'ReplayIncomplete: …', channel: NAME, position: at(30) }
  third.say(null, null, `realtime:${NAME}`, 'system', loss)
  assert.equal(told.length, 2)
  assert.deepEqual(replay(await third.join({ replay: { complete: true, position: at(31), count: 0 } })), { snapshot: 50 })
  assert.deepEqual(heard, ['1rs', '1rs', '8r', '10', '1rs'])
  assert.equal(kept.get(`campfire:position:${NAME}`), at(3), 'nothing is stored')
})

test('close() leaves the stock client as it was', async (t) => {
  const { client, campfire } = setUp(t)
  assert.equal(client.stateChangeCallbacks.message.length, 1)
  await campfire.close()
  assert.equal(client.accessToken, null)
  assert.equal(client.stateChangeCallbacks.message.length, 0)
})
