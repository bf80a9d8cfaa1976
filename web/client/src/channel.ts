import { type Backoff, delay } from './backoff.js'
import { Bookmark, isPosition, parseReplayReply } from './position.js'
import { type Retry, retryOf } from './refusals.js'
import type { Meta, StockBroadcast, StockChannel, StockRealtime } from './stock.js'
import { moment } from './token.js'

/**
 * `idle`: not yet subscribed. `joining`: the first join is on its way. `joined`: events
 * flow. `reconnecting`: the connection or the channel was lost and will be back by itself.
 * `refused`: the relay said no, the error says why; tried again, ever more slowly, if that may
 * help.
 * `closed`: unsubscribed.
 */
export type Status = 'idle' | 'joining' | 'joined' | 'reconnecting' | 'refused' | 'closed'

export interface CampfireEvent<Payload = any> {
  event: string
  payload: Payload
  meta: Meta
  /** It happened while this client was away, or is a row of a snapshot. */
  replayed: boolean
  /** A row as it was when the channel was joined: nothing has happened to it now. */
  snapshot: boolean
}

export type Listener = (event: CampfireEvent) => void
export type StatusCallback = (status: Status, error?: Error) => void

export interface ChannelOptions {
  /**
   * Resume from a position. Channels of an organization always do; a private channel can if a
   * route sends rows to it.
   */
  resume?: boolean
  /**
   * Begin with the newest rows, at most so many of each table, and resume from there. Events that
   * can no longer be had are made up for by new rows, after `onIncomplete`. The channel must be one
   * that has snapshots.
   */
  snapshot?: number
  /** As the stock client takes them. */
  broadcast?: { ack?: boolean; self?: boolean }
  presence?: { key?: string; enabled?: boolean }
  /**
   * Called with every stock channel that is made for this one, before it joins. What the
   * helper does not wrap, presence for instance, is bound there and so survives.
   */
  attach?: (channel: any) => void
}

/** What a channel needs of the rest of the helper. */
export interface Host {
  realtime: StockRealtime
  backoff: Backoff
  /** Why no connection can be made, as far as the page itself is the reason. */
  readonly forbidden: Error | null
  /** Sees to it that the stock client has a token, and none from before this `moment()`. */
  authorize(notBefore: number): Promise<void>
  load(name: string): string | null
  save(name: string, position: string): void
  onIncomplete(channel: CampfireChannel, reason: string): void
}

/** Runs a callback of the application. What it throws is its own, and stops nothing here. */
export function guarded(run: () => void): void {
  try {
    run()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

/**
 * A channel that outlives the stock ones: it makes them as they are needed, and its
 * position and listeners stay.
 */
export class CampfireChannel {
  readonly name: string
  readonly #host: Host
  readonly #options: ChannelOptions
  readonly #bookmark: Bookmark
  readonly #listeners = new Map<string, Set<Listener>>()
  /** Not every channel has positions. */
  readonly #hasPositions: boolean
  /** Positions outlive the page. With a snapshot they must not: the page has lost its rows. */
  readonly #isStored: boolean
  /** What the stock channel joins with, now or next, asks for rows. */
  #asksForRows = false
  #stock: StockChannel | null = null
  #status: Status = 'idle'
  #onStatus: StatusCallback | undefined
  /** Counts what the application asked for: an answer that is awaited may come too late. */
  #generation = 0
  #attempt = 0
  #joinedAt = Infinity
  #retryTimer: ReturnType<typeof setTimeout> | undefined
  #leaving: Promise<unknown> = Promise.resolve()
  /** Why the relay refused the join, or closed the channel. */
  #refusal: string | null = null
  #lastError: string | null = null
  /** The reply to the join said "incomplete", and a system message says it once more. */
  #isIncompleteTold = false
  #savedPosition: string | null = null

  constructor(host: Host, name: string, options: ChannelOptions = {}) {
    this.#host = host
    this.name = name
    this.#options = options
    const { snapshot, resume = false } = options
    this.#hasPositions = resume || snapshot !== undefined || /^(bcast:)?org:/i.test(name)
    this.#isStored = this.#hasPositions && snapshot === undefined
    this.#bookmark = new Bookmark(this.#isStored ? host.load(name) : null)
  }

  /** What a resume would begin after; null until the relay has said. */
  get position(): string | null {
    return this.#bookmark.position
  }

  get status(): Status {
    return this.#status
  }

  /** Listens to one event, or to all by `*`. */
  on(event: string, listener: Listener): this {
    const listeners = this.#listeners.get(event) ?? new Set()
    this.#listeners.set(event, listeners.add(listener))
    return this
  }

  off(event: string, listener: Listener): this {
    this.#listeners.get(event)?.delete(listener)
    return this
  }

  /** Joins, and stays joined until `unsubscribe()`. */
  subscribe(onStatus?: StatusCallback): this {
    if (this.#status !== 'idle' && this.#status !== 'closed') return this
    this.#onStatus = onStatus
    this.#attempt = 0
    this.#joinedAt = Infinity
    this.#setStatus('joining')
    void this.#open(-Infinity)
    return this
  }

  /**
   * Sends to the others on the channel. While it is not joined nothing is sent, and the
   * answer is `error`: the stock client's detour over HTTP would hide that.
   */
  async send(event: string, payload: unknown = {}): Promise<string> {
    if (!this.#stock || this.#status !== 'joined') return 'error'
    return this.#stock.send({ type: 'broadcast', event, payload })
  }

  /** Leaves. The position stays, so that `subscribe()` resumes. */
  async unsubscribe(): Promise<void> {
    this.#generation += 1
    clearTimeout(this.#retryTimer)
    this.#drop()
    if (this.#status !== 'idle' && this.#status !== 'closed') this.#setStatus('closed')
    await this.#leaving
  }

  /** @internal The reply to a heartbeat of this channel's socket. */
  heartbeat(position: string): void {
    if (this.#status !== 'joined') return
    this.#bookmark.heartbeat(position)
    this.#moved()
  }

  async #open(tokenNotBefore: number): Promise<void> {
    const generation = ++this.#generation
    try {
      await this.#host.authorize(tokenNotBefore)
      await this.#leaving
    } catch (error) {
      if (generation === this.#generation) this.#retry('reconnecting', error as Error)
      return
    }
    if (generation !== this.#generation) return
    const { realtime } = this.#host
    // channel() would hand out somebody else's.
    if (realtime.getChannels().some(({ topic }) => topic === `realtime:${this.name}`)) {
      this.#retry('refused', new Error(`${this.name} is already open on this client`), 'later')
      return
    }
    const stock = realtime.channel(this.name, {
      config: {
        broadcast: { ack: false, self: false, ...this.#options.broadcast, ...this.#replay() },
        presence: { key: '', enabled: false, ...this.#options.presence },
        // The stock client throws on a replay without it.
        private: true,
      },
    })
    this.#stock = stock
    this.#asksForRows = this.#needsRows
    const whileCurrent = <Value>(handle: (value: Value) => void) => (value: Value) => {
      if (this.#stock === stock) handle(value)
    }
    stock.on('broadcast', { event: '*' }, whileCurrent((message) => this.#receive(message)))
    stock.on('system', {}, whileCurrent((message) => this.#hear(message)))
    // Before subscribe() adds its own: the reply is read before any event that follows it.
    stock.joinPush
      .receive('ok', whileCurrent((response) => this.#joined(response)))
      .receive('error', whileCurrent((response) => {
        this.#refusal = Object.values(response ?? {}).join(', ') || 'refused'
      }))
    guarded(() => this.#options.attach?.(stock))
    try {
      stock.subscribe((status, error) => {
        if (this.#stock === stock) this.#changed(status as string, error)
      })
    } catch (error) {
      // Where no socket may be made at all, some environments throw.
      this.#drop()
      this.#retry('reconnecting', error as Error)
    }
  }

  /** Nothing was received yet that events could be put behind. */
  get #needsRows(): boolean {
    return this.#options.snapshot !== undefined && this.#bookmark.position === null
  }

  #replay(): { replay?: object } {
    if (!this.#hasPositions) return {}
    return { replay: this.#needsRows ? { snapshot: this.#options.snapshot } : this.#bookmark.replay }
  }

  #joined(response: unknown): void {
    this.#joinedAt = Date.now()
    this.#refusal = null
    this.#lastError = null
    this.#isIncompleteTold = false
    const reply = parseReplayReply(response)
    if (reply) this.#bookmark.joined(reply, this.#asksForRows)
    this.#moved()
    this.#setStatus('joined')
    if (reply && !reply.complete) {
      this.#isIncompleteTold = true
      this.#lack('ReplayIncomplete: events are missing')
    }
  }

  /** Events are missing. If the channel has snapshots, it begins anew with one. */
  #lack(reason: string): void {
    this.#host.onIncomplete(this, reason)
    if (this.#options.snapshot === undefined || this.#status !== 'joined') return
    if (Date.now() - this.#joinedAt > this.#host.backoff.maxMs) this.#attempt = 0
    this.#bookmark.forget()
    this.#drop()
    this.#retry('reconnecting', new Error(reason), 'later')
  }

  /** What the stock client says of its channel. */
  #changed(status: string, error?: Error): void {
    if (status === 'SUBSCRIBED') return // #joined has seen the reply itself
    this.#bookmark.left()
    const refusal = this.#refusal
    this.#refusal = null
    if (status === 'CLOSED') {
      // Not asked for: the token has expired, or the agent may no longer. The stock
      // client leaves it at that.
      this.#stock = null
      if (Date.now() - this.#joinedAt > this.#host.backoff.maxMs) this.#attempt = 0
      this.#joinedAt = Infinity
      this.#retry('reconnecting', new Error(this.#lastError ?? 'the relay closed the channel'))
    } else if (refusal !== null) {
      // The stock client would ask again with the same token, and at a fixed pace.
      this.#drop()
      this.#retry('refused', error ?? new Error(refusal), retryOf(refusal))
    } else {
      // The connection: the stock client brings it back and joins again by itself, with
      // the payload that it is given here. Meanwhile the token may have grown old.
      this.#rewriteJoin()
      this.#host.authorize(-Infinity).catch(() => {})
      this.#setStatus('reconnecting', this.#host.forbidden ?? error)
    }
  }

  #retry(status: Status, error: Error, retry: Retry = 'token'): void {
    clearTimeout(this.#retryTimer)
    if (retry !== 'never') {
      const wait = delay(this.#attempt, this.#host.backoff)
      const tokenNotBefore = retry === 'token' ? moment() : -Infinity
      this.#attempt += 1
      this.#retryTimer = setTimeout(() => void this.#open(tokenNotBefore), wait)
    }
    this.#setStatus(status, error)
  }

  /** Forgets the stock channel; what it still says is not heard. */
  #drop(): void {
    const stock = this.#stock
    this.#stock = null
    this.#bookmark.left()
    if (stock) this.#leaving = this.#host.realtime.removeChannel(stock).catch(() => {})
  }

  #receive({ event, payload, meta = {} }: StockBroadcast): void {
    const position = [meta.position, meta.id].find(isPosition)
    const replayed = meta.replayed === true
    const isNew = position === undefined || !this.#bookmark.hasSeen(position)
    if (isNew) this.#deliver({ event, payload, meta, replayed, snapshot: meta.snapshot === true })
    // After it was delivered: if this ends in between, it comes again.
    this.#bookmark.received(replayed, position !== undefined)
    if (isNew && position !== undefined) this.#bookmark.delivered(position)
    this.#moved()
  }

  #deliver(event: CampfireEvent): void {
    for (const name of [event.event, '*']) {
      for (const listener of [...(this.#listeners.get(name) ?? [])]) guarded(() => listener(event))
    }
  }

  #hear(system: { status?: string; message?: string; position?: unknown }): void {
    const { status, message = '', position } = system ?? {}
    if (message.startsWith('ReplayIncomplete')) {
      const isOfTheJoin = this.#isIncompleteTold
      this.#isIncompleteTold = false
      if (!isOfTheJoin) this.#lack(message)
      // After it was told: if this ends in between, it is told again. Rows that come anew have a position of their own.
      if (isPosition(position) && this.#stock) {
        this.#bookmark.announced(position, isOfTheJoin)
        this.#moved()
      }
    } else if (status === 'error') {
      this.#lastError = message
    }
  }

  #moved(): void {
    const { position } = this.#bookmark
    if (!this.#hasPositions || position === null || position === this.#savedPosition) return
    this.#savedPosition = position
    this.#rewriteJoin()
    if (this.#isStored) this.#host.save(this.name, position)
  }

  /** The stock client sends the payload of its first join again, unless it is replaced, and only as a whole. */
  #rewriteJoin(): void {
    if (!this.#stock || !this.#hasPositions) return
    this.#asksForRows = this.#needsRows
    const config = this.#stock.joinPush.payload().config as { broadcast?: object }
    const broadcast = { ...config.broadcast, ...this.#replay() }
    this.#stock.updateJoinPayload({ config: { ...config, broadcast } })
  }

  #setStatus(status: Status, error?: Error): void {
    this.#status = status
    guarded(() => this.#onStatus?.(status, error))
  }
}
