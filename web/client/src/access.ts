// Which token the stock client shows, while helpers come and go: the newest one's. The client has one place for a
// source of tokens; each helper keeps what was there before it, and gives the place back without taking it from
// another.
import type { StockRealtime } from './stock.js'

/** A source of tokens; a helper's takes a time that the token must not come from before. */
type Source = ((notBefore?: number) => Promise<string | null>) & { [LAYER]?: Layer }

interface Layer {
  isClosed: boolean
  readonly before: Source | null
}

/** Registered, so that copies of this module in one page know each other's. */
const LAYER: unique symbol = Symbol.for('campfire-client.source') as any

export class Access {
  readonly #realtime: StockRealtime
  readonly #source: Source
  readonly #layer: Layer

  /** From here on the stock client asks `current`: on connect, after a join, and on every heartbeat. */
  constructor(realtime: StockRealtime, current: (notBefore?: number) => Promise<string>) {
    const layer: Layer = { isClosed: false, before: realtime.accessToken }
    // After the end it may still be asked: by a function of the application's that was wrapped around it.
    const before = async (notBefore?: number) =>
      layer.before ? layer.before(notBefore) : realtime.accessTokenValue
    const source = (notBefore?: number) => (layer.isClosed ? before(notBefore) : current(notBefore))
    this.#realtime = realtime
    this.#layer = layer
    this.#source = realtime.accessToken = Object.assign(source, { [LAYER]: layer })
  }

  /** The token that the client will show: a newer helper's, if there is one. */
  token(notBefore: number): Promise<string | null> {
    const shown: Source | null = this.#realtime.accessToken
    return shown?.[LAYER] ? shown(notBefore) : this.#source(notBefore)
  }

  /** Gives the place back: to an older helper, or to what was there before all of them. */
  close(): void {
    this.#layer.isClosed = true
    const shown: Source | null = this.#realtime.accessToken
    let source = shown
    while (source?.[LAYER]?.isClosed) source = source[LAYER].before
    // Somebody else's, which was put there since, stays.
    if (source === shown) return
    this.#realtime.accessToken = source
    // Its channels are joined with a token that nobody renews any more.
    if (source?.[LAYER]) void this.#realtime.setAuth().catch(() => {})
  }
}
