// A connection that fails and never closes. Chromium ends a socket that the page's content policy forbids with `error`
// alone, and so does Node 22 one whose handshake failed. The stock client tries again after `close`: it would wait for
// good, and connect() does nothing while it holds a socket. And where the policy forbids the worker that is to beat for
// it, the stock client disconnects, and leaves it at that.
import { type Backoff, delay } from './backoff.js'
import type { StockRealtime } from './stock.js'

const HOOK = 'campfire'

/** What is used of the event that tells of a violation; Node has no such type. */
interface Violation {
  blockedURI: string
  disposition: string
  effectiveDirective: string
}

const watched = new WeakMap<StockRealtime, Connection>()

/** The socket of one stock client, however many helpers share it. */
export class Connection {
  readonly #realtime: StockRealtime
  readonly #backoff: Backoff
  readonly #hooks: ['open' | 'close' | 'error', [string, Function]][]
  #helpers = 0
  #attempt = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #forbidden: Error | null = null
  /** The stock client will disconnect, for want of its worker. */
  #isWorkerless = false

  /** That of this client; each helper that asks for it releases it once. */
  static of(realtime: StockRealtime, backoff: Backoff): Connection {
    const connection = watched.get(realtime) ?? new Connection(realtime, backoff)
    if (connection.#helpers === 0) connection.#watch()
    connection.#helpers += 1
    return connection
  }

  private constructor(realtime: StockRealtime, backoff: Backoff) {
    this.#realtime = realtime
    this.#backoff = backoff
    this.#hooks = [
      ['open', [HOOK, () => this.#opened()]],
      ['close', [HOOK, () => (this.#isWorkerless ? this.#failed() : this.#settled())]],
      ['error', [HOOK, () => this.#failed()]],
    ]
  }

  release(): void {
    this.#helpers -= 1
    if (this.#helpers > 0) return
    this.#settled()
    for (const [event, hook] of this.#hooks) {
      const callbacks = this.#realtime.stateChangeCallbacks[event]
      const index = callbacks.indexOf(hook)
      if (index >= 0) callbacks.splice(index, 1)
    }
    globalThis.removeEventListener?.('securitypolicyviolation', this.#violated)
    watched.delete(this.#realtime)
  }

  /** Why there is no connection, if the page's content policy is the reason. */
  get forbidden(): Error | null {
    return this.#forbidden
  }

  #watch(): void {
    watched.set(this.#realtime, this)
    for (const [event, hook] of this.#hooks) this.#realtime.stateChangeCallbacks[event].push(hook)
    globalThis.addEventListener?.('securitypolicyviolation', this.#violated)
  }

  /** Told before the socket's own `error`. */
  readonly #violated = (event: unknown): void => {
    const { blockedURI, disposition, effectiveDirective } = event as Violation
    // Policies that only report forbid nothing.
    if (disposition === 'report') return
    const { protocol, host } = new URL(this.#realtime.endpointURL())
    // The address may be cut to its origin, or to its scheme.
    if (blockedURI === protocol.slice(0, -1) || blockedURI.startsWith(`${protocol}//${host}`)) {
      // Without the rest of it, which holds the key.
      this.#forbid(`${protocol}//${host}: allow it by connect-src`)
    } else if (this.#realtime.worker && blockedURI === 'blob' && effectiveDirective !== 'connect-src') {
      this.#isWorkerless = true
      this.#forbid("the client's worker: allow it by worker-src blob:")
    }
  }

  #forbid(what: string): void {
    this.#forbidden = new Error(`the page's content policy forbids ${what}`)
  }

  #opened(): void {
    this.#settled()
    // It opens each time, and is closed again.
    if (this.#isWorkerless) return
    this.#attempt = 0
    this.#forbidden = null
  }

  /** The stock client goes on by itself. */
  #settled(): void {
    clearTimeout(this.#timer)
  }

  #failed(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#again(), delay(this.#attempt, this.#backoff))
    this.#attempt += 1
  }

  /** No `close` has followed. */
  async #again(): Promise<void> {
    // Lets go of the socket, whatever state it says it is in.
    await this.#realtime.disconnect()
    if (this.#helpers === 0 || this.#realtime.getChannels().length === 0) return
    try {
      this.#realtime.connect()
    } catch {
      // No socket can be made at all.
      this.#failed()
    }
  }
}
