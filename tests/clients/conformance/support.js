// What the conformance suite shares. It runs through any release of the stock client: CAMPFIRE_CLIENT names the package
// of tests/clients/versions (else the current one is taken), and nothing here uses more than all of them offer.
import assert from 'node:assert/strict'
import { appendFileSync, readFileSync } from 'node:fs'
import { connect as tcp, createServer } from 'node:net'
import { createRequire } from 'node:module'
import { once } from 'node:events'
import { test } from 'node:test'
import ws from 'ws'
import { agentClaims, apiKey, relay, sign } from '../support.js'

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
// Releases before 2.50 make no use of a transport they are given, and bring one themselves.
const transport = minor < 50 ? {} : { transport: ws }
const idle = createClient(relay, apiKey, options({}))

/** The serializations that this release speaks: 2.0.0 since 2.91; the binary header of its previews was another. */
const serializations = minor < 91 ? ['1.0.0'] : ['1.0.0', '2.0.0']

function options(realtime) {
  return { auth: { persistSession: false, autoRefreshToken: false }, realtime: { ...transport, ...realtime } }
}

/**
 * One row of the table in docs/clients.md: a test for each serialization this release speaks, if it has the method, and
 * if no fault of the release itself is known that keeps it from passing against any server.
 */
export function feature(title, { only = '1.0.0 2.0.0', needs = 'send', faults = {} }, run) {
  if (version in faults || !(needs in idle.channel('idle'))) return
  for (const vsn of serializations.filter((vsn) => only.includes(vsn))) {
    test(`${version}, ${vsn}: ${title}`, { timeout: 60_000 }, async (t) => {
      await run(t, vsn)
      // Reached by what passed alone.
      if (process.env.CAMPFIRE_CONFORMANCE) {
        const line = { client: 'supabase-js', version, vsn, feature: title }
        appendFileSync(process.env.CAMPFIRE_CONFORMANCE, `${JSON.stringify(line)}\n`)
      }
    })
  }
}

const tokens = new WeakMap()

/** A client with a token; `t.after` closes it. */
export async function connect(t, vsn, claims = agentClaims(), url = relay) {
  const accessToken = async () => tokens.get(client)
  const realtime = serializations.length > 1 ? { vsn } : {}
  const client = createClient(url, apiKey, { ...options(realtime), accessToken })
  t.after(() => client.realtime.disconnect())
  await refresh(client, claims)
  return client
}

/** Another token, from now on. */
export async function refresh(client, claims) {
  tokens.set(client, sign(claims))
  // Old releases do not ask for it.
  const asks = typeof client.realtime.accessToken === 'function'
  await client.realtime.setAuth(...(asks ? [] : [tokens.get(client)]))
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
    const deadline = AbortSignal.timeout(20_000)
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
}

/** Subscribes; rejects if the first answer is not SUBSCRIBED. */
export async function join(client, channelName, config = {}) {
  const channel = client.channel(channelName, { config })
  const [events, statuses, systems] = [new Arrivals(), new Arrivals(), new Arrivals()]
  channel.on('broadcast', { event: '*' }, (message) => events.push(message))
  channel.on('system', {}, (message) => systems.push(message))
  channel.subscribe((status, error) => statuses.push({ status, reason: error?.message }))
  const [first] = await statuses.of(1)
  assert.deepEqual(first, { status: 'SUBSCRIBED', reason: undefined }, channelName)
  return { channel, events, statuses, systems }
}

/** A way to the relay that can be cut. */
export class Cable {
  static async lay(t) {
    const cable = new Cable()
    const { hostname, port } = new URL(relay)
    cable.sockets = new Set()
    cable.server = createServer((near) => {
      const far = tcp(Number(port), hostname)
      for (const [one, other] of [[near, far], [far, near]]) {
        cable.sockets.add(one)
        one.on('error', () => other.destroy()).on('close', () => other.destroy()).pipe(other)
      }
    }).listen(0, '127.0.0.1')
    await once(cable.server, 'listening')
    cable.url = `http://127.0.0.1:${cable.server.address().port}`
    t.after(() => {
      cable.cut()
      cable.server.close()
    })
    return cable
  }

  cut() {
    for (const socket of this.sockets) socket.destroy()
    this.sockets.clear()
  }
}
