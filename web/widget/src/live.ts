// The stream of one conversation: the stock client of supabase, and the helper that makes it resume.
import { type Campfire, type CampfireChannel, type CampfireEvent, createCampfire } from 'campfire-client'
import { ApiError, type Grant } from './api.js'
import { Line } from './line.js'
import type { ConversationRow, MessageRow, ReceiptRow } from './rows.js'
import { TypingIn, TypingOut } from './typing.js'

/** `stale`: the relay has not answered for a while, so what is shown may be old. */
export type LiveState = 'connecting' | 'connected' | 'reconnecting' | 'offline' | 'stale'

export interface LiveHost {
  getToken(): Promise<string>
  joined(): void
  /** Events are missing: fetch anew. */
  incomplete(): void
  message(row: MessageRow, isReplayed: boolean): void
  updated(row: MessageRow): void
  deleted(id: string): void
  receipt(receipt: ReceiptRow): void
  /** null: it was deleted. */
  conversation(row: ConversationRow | null): void
  state(state: LiveState): void
  error(error: ApiError): void
  changed(): void
}

/** A heartbeat that is not answered in this time makes the stream stale; after as long again it is made anew. */
const ANSWER_MS = 6_000

export class Live {
  readonly #host: LiveHost
  readonly #line: Line
  readonly #name: string
  readonly #positions: Map<string, string>
  #campfire: Campfire | null = null
  #channel: CampfireChannel | null = null
  readonly #typingOut: TypingOut
  readonly #typingIn: TypingIn
  #state: LiveState = 'connecting'
  #agentsOnline: boolean | null = null
  #usedToken: string | null = null
  /** While a heartbeat waits for its answer. */
  #answerTimer: ReturnType<typeof setTimeout> | undefined
  #isClosed = false

  constructor(relay: string, grant: Grant, positions: Map<string, string>, host: LiveHost) {
    this.#host = host
    this.#line = Line.of(relay, grant.apiKey)
    this.#name = grant.channels.widget
    this.#positions = positions
    this.#typingOut = new TypingOut((event) => void this.#channel?.send(event))
    this.#typingIn = new TypingIn(() => host.changed())
  }

  get agentsOnline(): boolean | null {
    return this.#agentsOnline
  }

  get isTeamTyping(): boolean {
    return this.#typingIn.isTyping
  }

  hasUsed(token: string): boolean {
    return token === this.#usedToken
  }

  async start(): Promise<void> {
    this.#setState('connecting')
    await this.#line.free()
    if (this.#isClosed) return
    const host = this.#host
    const positions = this.#positions
    this.#line.beat = (status) => this.#beat(status)
    this.#campfire = createCampfire(this.#line.client, {
      getToken: async () => (this.#usedToken = await host.getToken()),
      onIncomplete: () => host.incomplete(),
      storage: {
        getItem: (key) => positions.get(key) ?? null,
        setItem: (key, position) => void positions.set(key, position),
      },
    })
    this.#channel = this.#campfire.channel(this.#name).on('*', (event) => this.#receive(event))
    this.#channel.subscribe((status, error) => {
      if (this.#isClosed) return
      if (status === 'joined') {
        this.#setState('connected')
        host.joined()
      } else if (status === 'reconnecting' || status === 'refused') {
        this.#typingIn.clear()
        this.#setState(navigator.onLine === false ? 'offline' : 'reconnecting')
        if (error && /content policy/.test(error.message)) host.error(new ApiError('connection_forbidden', error.message))
      }
    })
  }

  typing(isTyping: boolean): void {
    this.#typingOut.set(isTyping)
  }

  /** Asks the relay for a sign of life. If the last question is still open after its time, the socket is dropped. */
  probe(): void {
    if (this.#state === 'offline') this.#setState('reconnecting')
    if (this.#answerTimer === undefined) void this.#line.client.sendHeartbeat()
  }

  offline(): void {
    if (!this.#isClosed) this.#setState('offline')
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#answerTimer)
    this.#typingOut.close()
    this.#typingIn.clear()
    if (this.#campfire) this.#line.release(this.#campfire.close())
  }

  #receive({ event, payload, meta, replayed }: CampfireEvent): void {
    if (this.#isClosed) return
    const sender = (meta.sender as { type?: unknown } | undefined)?.type
    switch (event) {
      case 'message:created': {
        const row = payload as MessageRow
        if (row.sender_type !== 'visitor') this.#typingIn.clear()
        return this.#host.message(row, replayed)
      }
      case 'message:updated': return this.#host.updated(payload as MessageRow)
      case 'message:deleted': return this.#host.deleted((payload as MessageRow).id)
      case 'conversation:updated': return this.#host.conversation(payload as ConversationRow)
      case 'conversation:deleted': return this.#host.conversation(null)
      case 'read:receipt': return this.#host.receipt(payload as ReceiptRow)
      // The visitor's own other tabs type here as well.
      case 'typing:start': return sender === 'visitor' ? undefined : this.#typingIn.set(true)
      case 'typing:stop': return sender === 'visitor' ? undefined : this.#typingIn.set(false)
      case 'agent:status:online':
      case 'agent:status:offline':
        this.#agentsOnline = (payload as { online?: unknown })?.online === true
        return this.#host.changed()
    }
  }

  #beat(status: string): void {
    clearTimeout(this.#answerTimer)
    this.#answerTimer = undefined
    if (this.#isClosed) return
    if (status === 'sent') this.#answerTimer = setTimeout(() => this.#unanswered(), ANSWER_MS)
    else if (status === 'ok' && this.#channel?.status === 'joined') this.#setState('connected')
  }

  #unanswered(): void {
    if (this.#state === 'connected') this.#setState('stale')
    this.#answerTimer = setTimeout(() => {
      this.#answerTimer = undefined
      // While one is unanswered, the stock client takes another for the end of the connection, and makes a new one.
      void this.#line.client.sendHeartbeat()
    }, ANSWER_MS)
  }

  #setState(state: LiveState): void {
    if (state === this.#state && state !== 'connecting') return
    this.#state = state
    this.#host.state(state)
  }
}
