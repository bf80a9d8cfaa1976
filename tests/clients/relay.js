// A relay that belongs to one test file: it may be killed without harm to the others.
// It is started from the argv and the environment of the relay that all share, on a port
// and a slot of its own.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEADLINE_MS, sql } from './support.js'

const words = async (file) => (await readFile(file, 'utf8')).split('\0').filter(Boolean)

const listens = async (where) => {
  const server = createServer().listen(where)
  try {
    await once(server, 'listening')
    return server
  } catch {
    return null
  }
}

/**
 * A port that nobody else gets while this process lives, though nobody listens on it yet. It lies below those of
 * outgoing connections, and other tests see it claimed by an abstract socket, as in tests/src/port.rs.
 */
async function reservePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000)
    const claim = await listens({ path: `\0campfire-port-${port}` })
    if (!claim) continue
    const free = await listens({ port, host: '127.0.0.1' })
    if (free) {
      free.close()
      await once(free, 'close')
      claim.unref()
      return port
    }
    claim.close()
  }
}

export class OwnRelay {
  /** Starts one like the process `pid`, on the slot `campfire_<name>`. */
  static async start(pid, name, environment = {}) {
    const relay = new OwnRelay()
    relay.port = await reservePort()
    const [program, ...rest] = await words(`/proc/${pid}/cmdline`)
    relay.program = program
    relay.slot = `campfire_${name}`
    relay.argv = rest.map((word) => (/^127\.0\.0\.1:\d+$/.test(word) ? `127.0.0.1:${relay.port}` : word))
    relay.env = {
      ...Object.fromEntries((await words(`/proc/${pid}/environ`)).map((pair) => {
        const [key, ...value] = pair.split('=')
        return [key, value.join('=')]
      })),
      CAMPFIRE_LISTEN: `127.0.0.1:${relay.port}`,
      CAMPFIRE_SLOT: relay.slot,
      ...environment,
    }
    await relay.run()
    return relay
  }

  get url() {
    return `http://127.0.0.1:${this.port}`
  }

  /** Starts the program and waits until it has caught up. */
  async run() {
    this.log = ''
    this.child = spawn(this.program, this.argv, { env: this.env, stdio: ['ignore', 'ignore', 'pipe'] })
    this.child.stderr.setEncoding('utf8').on('data', (text) => { this.log += text })
    // Whatever ends this process closes the pipe, and then the relay ends as well.
    this.watchdog?.kill()
    this.watchdog = spawn(
      'sh', ['-c', 'read -r _; kill -s KILL "$1"', 'watchdog', String(this.child.pid)],
      { stdio: ['pipe', 'ignore', 'ignore'], detached: true },
    )
    const deadline = Date.now() + DEADLINE_MS
    for (;;) {
      if (this.child.exitCode !== null) throw new Error(`the relay exited before it was ready:\n${this.log}`)
      const answer = await fetch(`${this.url}/readyz`).catch(() => null)
      if (answer?.ok) return
      if (Date.now() > deadline) throw new Error(`the relay is not ready:\n${this.log}`)
      await sleep(10)
    }
  }

  /** Ends it as a power cut would. */
  async kill9() {
    const exited = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await exited
    this.watchdog.kill()
  }
}

/** Drops a relay's slot, as soon as the server has noticed that nobody reads it any more. */
export async function dropSlot({ slot }) {
  for (const deadline = Date.now() + DEADLINE_MS; ; await sleep(50)) {
    const left = await sql(`select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where slot_name = '${slot}' and not active;
      select count(*) from pg_replication_slots where slot_name = '${slot}'`)
    if (left.endsWith('0')) return
    if (Date.now() > deadline) throw new Error(`the slot ${slot} is still in use`)
  }
}
