// Keeps a token that lives. The stock client asks for it on connect and on every
// heartbeat; here it is made anew in time, since the relay closes a channel whose token
// has expired, and the stock client does not open it again.
import { type Backoff, DEFAULT_BACKOFF, delay } from './backoff.js'

export type GetToken = () => Promise<string> | string

/**
 * A minute is promised; the other is for tabs in the background, whose timers may be a
 * minute late.
 */
export const REFRESH_BEFORE_EXPIRY_MS = 120_000

/**
 * A moment that is later than all before it, also where the clock stands still between two calls (browsers round it)
 * or is set back. In milliseconds of the page's life, so that copies of this module can compare theirs.
 */
let latest = 0
export function moment(): number {
  latest = Math.max(performance.now(), latest + 0.001)
  return latest
}

/** No timer of JavaScript waits longer. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** When a JWT expires, in milliseconds since 1970; null if it does not say. */
export function expiryOf(token: string): number | null {
  const body = token.split('.')[1]
  if (!body) return null
  try {
    const bytes = Uint8Array.from(
      atob(body.replaceAll('-', '+').replaceAll('_', '/')),
      (character) => character.charCodeAt(0),
    )
    const { exp } = JSON.parse(new TextDecoder().decode(bytes)) as { exp?: unknown }
    return typeof exp === 'number' && Number.isFinite(exp) ? exp * 1000 : null
  } catch {
    return null
  }
}

/** When to replace a token that came at `now`: in time, and a short-lived one at half its life. */
export function refreshAt(expiry: number | null, now: number): number {
  if (expiry === null) return Infinity
  const life = Math.max(0, expiry - now)
  return expiry - Math.min(REFRESH_BEFORE_EXPIRY_MS, life / 2)
}

export class TokenKeeper {
  readonly #getToken: GetToken
  readonly #onRefresh: () => void
  readonly #backoff: Backoff
  #token: string | null = null
  #obtainedAt = -Infinity
  #refreshAt = 0
  #pending: Promise<string> | null = null
  #timer: ReturnType<typeof setTimeout> | undefined
  #failures = 0
  #isClosed = false

  /** `onRefresh`: a token came because of the time, not because somebody asked. */
  constructor(getToken: GetToken, onRefresh: () => void, backoff = DEFAULT_BACKOFF) {
    this.#getToken = getToken
    this.#onRefresh = onRefresh
    this.#backoff = backoff
  }

  /**
   * A token that lives for a while; a new one only if it is time, or if the known one came
   * before `notBefore`, a `moment()`, and has been refused since. Many channels that are closed at once
   * share one.
   */
  async current(notBefore = -Infinity): Promise<string> {
    const isGood = Date.now() < this.#refreshAt && this.#obtainedAt > notBefore
    return this.#token !== null && isGood ? this.#token : this.#refresh()
  }

  #refresh(): Promise<string> {
    this.#pending ??= this.#fetch().finally(() => {
      this.#pending = null
    })
    return this.#pending
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  async #fetch(): Promise<string> {
    try {
      const token = await this.#getToken()
      const now = Date.now()
      // What came expired is not asked for in a loop.
      this.#failures = (expiryOf(token) ?? Infinity) > now ? 0 : this.#failures + 1
      this.#token = token
      this.#obtainedAt = moment()
      this.#refreshAt = Math.max(refreshAt(expiryOf(token), now), now + this.#patience())
      return token
    } catch (error) {
      this.#failures += 1
      this.#refreshAt = Date.now() + this.#patience()
      throw error
    } finally {
      this.#schedule()
    }
  }

  #patience(): number {
    return delay(Math.max(0, this.#failures - 1), this.#backoff)
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    if (this.#isClosed || this.#refreshAt === Infinity) return
    const wait = Math.min(TIMER_MAX_MS, Math.max(0, this.#refreshAt - Date.now()))
    this.#timer = setTimeout(() => this.#tick(), wait)
    // In Node, a token is no reason to go on living.
    ;(this.#timer as { unref?: () => void }).unref?.()
  }

  #tick(): void {
    if (Date.now() < this.#refreshAt) return this.#schedule()
    // A failure has set the next timer already.
    this.#refresh().then(this.#onRefresh, () => {})
  }
}
