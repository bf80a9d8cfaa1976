// Sockets that fail and never close, as browsers and Node make them where no connection comes about.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Campfire, createCampfire } from '../src/index.js'
import { at, FakeSocket, NAME, setUp } from './socket.js'

const joined = { replay: { complete: true, position: at(5), count: 0 } }

/** Answers every join: what was asked while there was no connection is sent again beside the new join. */
async function serve(socket: FakeSocket, answer: object = joined): Promise<never> {
  for (;;) await socket.join(answer)
}

/** Subscribes; `statuses` are those until it is joined. */
function subscribe(campfire: Campfire, name = NAME) {
  const statuses: string[] = []
  const joined = new Promise<void>((resolve) => {
    campfire.channel(name).subscribe((status, error) => {
      statuses.push(error && status !== 'reconnecting' ? `${status} ${error.message}` : status)
      if (status === 'joined') resolve()
    })
  })
  return { statuses, joined }
}

/** Chromium, where the page's content policy forbids the address. */
const forbidden = (socket: FakeSocket) => {
  socket.readyState = 3
  socket.close = () => {}
  setImmediate(() => socket.onerror({ type: 'error' }))
}

/** Node 22, where the handshake fails: the socket never leaves the state of connecting. */
const unanswered = (socket: FakeSocket) => {
  socket.close = () => {
    socket.readyState = 2
  }
  setImmediate(() => socket.onerror({ type: 'error' }))
}

/** Each fate in turn, and then an open socket. */
const fates = (...these: ((socket: FakeSocket) => void)[]) => {
  const opens = FakeSocket.fate
  FakeSocket.fate = (socket) => (these.shift() ?? opens)(socket)
}

for (const [name, fate] of Object.entries({ forbidden, unanswered })) {
  test(`a first connection that is ${name} is tried again until there is one`, { timeout: 20_000 }, async (t) => {
    const { campfire, opened } = setUp(t)
    fates(fate, fate)
    const { statuses, joined } = subscribe(campfire)
    void serve(await opened)
    await joined
    assert.equal(FakeSocket.all.length, 3)
    assert.deepEqual(statuses, ['joining', 'reconnecting', 'joined'])
  })

  test(`a connection that is lost and then ${name} comes back, with its position`, { timeout: 20_000 }, async (t) => {
    const { campfire, opened, nextSocket } = setUp(t)
    const channel = campfire.channel(NAME).subscribe()
    const first = await opened
    await first.join(joined)
    first.row(7)
    fates(fate, fate)
    const again = nextSocket()
    first.close(1012)
    const payload = await (await again).join({ replay: { complete: true, position: at(9), count: 0 } })
    assert.deepEqual(payload.config.broadcast.replay, { after: at(7) })
    assert.equal(channel.status, 'joined')
  })

  test(`a channel that is subscribed while the connection is ${name} is joined too`, { timeout: 20_000 }, async (t) => {
    const { campfire, opened } = setUp(t)
    fates(fate, fate)
    const failed = new Promise<void>((resolve) => {
      campfire.channel(NAME).subscribe((status) => status === 'reconnecting' && resolve())
    })
    await failed
    const second = subscribe(campfire, `${NAME}:conversations`)
    void serve(await opened)
    await second.joined
    assert.equal(campfire.channel(NAME).status, 'joined')
  })
}

test('where no socket can be made the reason is told, and it is tried again', { timeout: 20_000 }, async (t) => {
  const { campfire, opened } = setUp(t)
  const refuse = () => {
    throw new Error('The operation is insecure.')
  }
  fates(refuse, refuse)
  const statuses: string[] = []
  campfire.channel(NAME).subscribe((status, error) => statuses.push(`${status} ${error?.message ?? ''}`))
  await (await opened).join(joined)
  const insecure = 'reconnecting WebSocket not available: The operation is insecure.'
  assert.deepEqual(statuses, ['joining ', insecure, insecure, 'joined '])
})

test('a failed socket that does close is left to the stock client', async (t) => {
  const { campfire, opened, client } = setUp(t, { backoff: { minMs: 60_000, maxMs: 60_000 } })
  fates((socket) => setImmediate(() => {
    socket.onerror({ type: 'error' })
    socket.close(1006)
  }))
  const { joined } = subscribe(campfire)
  void serve(await opened)
  await joined
  assert.equal(FakeSocket.all.length, 2)
  assert.ok(client.isConnected())
})

test('several helpers share the care for the socket, and leave nothing behind', { timeout: 20_000 }, async (t) => {
  const { client, campfire, opened } = setUp(t)
  const options = { getToken: () => 'second', onIncomplete: () => {}, backoff: { minMs: 1, maxMs: 10 } }
  const second = createCampfire(client, options)
  fates(forbidden, forbidden)
  const { joined } = subscribe(second)
  await campfire.close()
  void serve(await opened)
  await joined
  assert.equal(FakeSocket.all.length, 3)
  await second.close()
  for (const [event, callbacks] of Object.entries(client.stateChangeCallbacks)) {
    assert.ok(callbacks.every(([reference]) => reference !== 'campfire'), event)
  }
})

test('a name that another helper of the client has open is joined once it is given up', async (t) => {
  const { client, campfire, opened } = setUp(t)
  campfire.channel(NAME).subscribe()
  const socket = await opened
  await socket.join(joined)
  const options = { getToken: () => 'second', onIncomplete: () => {}, backoff: { minMs: 1, maxMs: 10 } }
  const second = createCampfire(client, options)
  t.after(() => second.close())
  await new Promise<void>((resolve) => {
    second.channel(NAME).subscribe((status) => status === 'refused' && resolve())
  })
  await campfire.close()
  assert.equal((await socket.join(joined)).access_token, 'second')
})
