// What the conformance suite shares. It runs through any release of the stock client: CAMPFIRE_CLIENT names the package
// of tests/clients/versions (else the current one is taken), and nothing here uses more than all of them offer.
import assert from 'node:assert/strict'
import { appendFileSync, readFileSync } from 'node:fs'
import { connect as tcp, createServer } from 'node:net'
import { createRequire } from 'node:module'
import { once } from 'node:events'
import { test } from 'node:test'
import ws from 'ws'
import { DEADLINE_MS, agentClaims, apiKey, relay, sign } from '../support.js'

const name = process.env.CAMPFIRE_CLIENT ?? '@supabase/supabase-js'
const from = process.env.CAMPFIRE_CLIENT ? '../versions/package.json' : '../package.json'
const require = createRequire(new URL(from, import.meta.url))
const main = require.resolve(name)
const { createClient } = require(main)

export const version = (() => {
  // The package does not export its own package.json.
  const folder = main.slice(0, main.lastIndexOf(`/${name}/`) + name.length + 2)
  return JSON.parse(readFileSync(`${folder}package.json`)).version
})()

const minor = Number(version.split('.')[1])
/** A runtime whose own WebSocket is to be used, if it is not Node 20. */
const runtime = process.env.CAMPFIRE_RUNTIME
// Releases before 2.50 make no use of a transport they are given, and bring one themselves.
const transport = minor < 50 || runtime ? {} : { transport: ws }
const label = runtime ? `${version} on ${runtime}` : version
const idle = createClient(relay, apiKey, options({}))

/** The serializations that this release speaks: 2.0.0 since 2.91; the binary header of its previews was another. */
export const serializations = minor < 91 ? ['1.0.0'] : ['1.0.0', '2.0.0']

/** What this release has not, or does wrong against any server: false, or how. Only pinned releases were looked at. */
export const lacks = {
  accessToken: minor < 50 && 'it asks for no token: the application sets it',
  private: minor < 45 && 'its joins do not say `private`',
  pushErrors: minor < 45 && 'a push that is answered with an error resolves only after ten seconds',
  bytes: serializations.length < 2 && 'its serialization has no binary payloads',
  both: serializations.length < 2 && 'it speaks one serialization',
  httpSend: !('httpSend' in idle.channel('idle')) && 'it has no httpSend()',
  single: minor < 109 && 'its httpSend() takes the route for several: JSON alone, and yes to what is dropped',
  httpToken: minor < 45 && 'over HTTP it shows the key alone',
  httpPrivate: minor < 50 && 'over HTTP it does not say `private`',
  rejoin: version === '2.50.0' && 'it tears all channels down when it reconnects',
  failures: runtime?.startsWith('Node 22') && 'a handshake that fails is told of by an error without a close',
  metas: version === '2.109.0' && 'when a key gets one more meta it forgets the ref of the others, and they never leave',
}

function options(realtime) {
  return { auth: { persistSession: false, autoRefreshToken: false }, realtime: { ...transport, ...realtime } }
}

/**
 * One row of the table in docs/clients.md: a test for each serialization that this release speaks and the feature is
 * about, or none with the reason why.
 */
export function feature(title, run, { without = [], only = serializations } = {}) {
  const skip = without.find(Boolean)
  for (const vsn of skip ? serializations : only) {
    test(`${label}, ${vsn}: ${title}`, { timeout: 5 * DEADLINE_MS, skip }, async (t) => {
      await run(t, vsn)
      // Reached by what passed alone.
      if (process.env.CAMPFIRE_CONFORMANCE) {
        const line = { client: 'supabase-js', version: label, vsn, feature: title }
        appendFileSync(process.env.CAMPFIRE_CONFORMANCE, `${JSON.stringify(line)}\n`)
      }
    })
  }
}

/** A client without a token of its own; `t.after` closes it. */
export function anonymous(t, vsn, { url = relay, realtime = {}, ...rest } = {}) {
  const speaks = serializations.length > 1 ? { vsn } : {}
  const client = createClient(url, apiKey, { ...options({ ...speaks, ...realtime }), ...rest })
  t.after(() => client.realtime.disconnect())
  return client
}

const tokens = new WeakMap()

/** A client with a token. */
export async function connect(t, vsn, claims = agentClaims(), rest = {}) {
  // Some releases ask for it before there is a client.
  const keeper = {}
  const client = anonymous(t, vsn, { ...rest, accessToken: async () => keeper.token })
  tokens.set(client, keeper)
  await refresh(client, claims)
  return client
}

/** Another token, from now on. */
export async function refresh(client, claims) {
  const token = sign(claims)
  tokens.get(client).token = token
  await client.realtime.setAuth(...(lacks.accessToken ? [token] : []))
}

/** Something that is waited for: `of(n)` resolves with the first n. */
export class Arrivals {
  all = []
  #changed = []

  push(item) {
    this.all.push(item)
    this.#changed.splice(0).forEach((wake) => wake())
  }

  async of(count) {
    const deadline = AbortSignal.timeout(DEADLINE_MS)
    while (this.all.length < count) {
      await new Promise((wake, fail) => {
        this.#changed.push(wake)
        deadline.addEventListener('abort', () => {
          fail(new Error(`${this.all.length} of ${count}: ${JSON.stringify(this.all)}`))
        })
      })
    }
    return this.all.slice(0, count)
  }

  /** The first from `start` on that is as wanted. */
  async find(wanted, start = 0) {
    for (let index = start; ; index += 1) {
      await this.of(index + 1)
      if (wanted(this.all[index])) return this.all[index]
    }
  }
}

/** Subscribes, and notes all that comes. `listen` may add listeners. */
export function subscribe(client, channelName, config = {}, listen = () => {}) {
  const channel = client.channel(channelName, { config })
  const [events, statuses, systems] = [new Arrivals(), new Arrivals(), new Arrivals()]
  channel.on('broadcast', { event: '*' }, (message) => events.push(message))
  channel.on('system', {}, (message) => systems.push(message))
  listen(channel)
  channel.subscribe((status, error) => statuses.push({ status, reason: error?.message }))
  return { channel, events, statuses, systems }
}

/** Subscribes; rejects if the first answer is not SUBSCRIBED. */
export async function join(client, channelName, config, listen) {
  const joined = subscribe(client, channelName, config, listen)
  const [first] = await joined.statuses.of(1)
  assert.deepEqual(first, { status: 'SUBSCRIBED', reason: undefined }, channelName)
  return joined
}

/** Subscribes; rejects unless the first answer is an error with such a reason. */
export async function refused(client, channelName, config, reason, listen) {
  const { statuses } = subscribe(client, channelName, config, listen)
  const [first] = await statuses.of(1)
  assert.equal(first.status, 'CHANNEL_ERROR')
  assert.match(first.reason, reason)
  // It would be tried again and again.
  await client.removeAllChannels()
}

/** What the channel is told when it ends, the status before the last being SUBSCRIBED. */
export async function ends({ statuses, systems }, message) {
  const [, end] = await statuses.of(2)
  assert.equal(end.status, 'CLOSED')
  const told = systems.all.find(({ status }) => status === 'error')
  assert.match(told.message, message)
}

/** A broadcast; `ok`, or what became of it. */
export function send({ channel }, payload, event = 'e', options = {}) {
  return channel.send({ type: 'broadcast', event, payload }, options)
}

/** A way to the relay that can be cut. */
export class Cable {
  static async lay(t) {
    const cable = new Cable()
    const { hostname, port } = new URL(relay)
    cable.sockets = new Set()
    cable.refused = new Arrivals()
    cable.server = createServer((near) => {
      if (cable.isDead) {
        near.destroy()
        return cable.refused.push(near)
      }
      const far = tcp(Number(port), hostname)
      for (const [one, other] of [[near, far], [far, near]]) {
        cable.sockets.add(one)
        one.on('error', () => other.destroy()).on('close', () => other.destroy()).pipe(other)
      }
    }).listen(0, '127.0.0.1')
    await once(cable.server, 'listening')
    cable.url = `http://127.0.0.1:${cable.server.address().port}`
    t.after(() => cable.end())
    return cable
  }

  cut() {
    for (const socket of this.sockets) socket.destroy()
    this.sockets.clear()
  }

  /** Whether it leads nowhere: whoever calls is hung up on, and noted in `refused`. */
  isDead = false

  /** Cuts it for good. */
  end() {
    this.server.close()
    this.cut()
  }
}
