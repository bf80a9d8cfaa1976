// One visitor's conversation: the leave to act in it, its messages, and what is on the way. It knows no page: a view
// shows it, and the page's verbs move it. Nothing is asked of the relay, and nothing stored, before there is a reason.
import { Api, ApiError, type AuthRequest, type Grant } from './api.js'
import { messageId } from './ids.js'
import { Live, type LiveState } from './live.js'
import type { Memory } from './memory.js'
import { Outbox, type Pending } from './outbox.js'
import { type Backoff, delay, isTransient } from './retry.js'
import type { ConversationRow, MessageRow, ReceiptRow } from './rows.js'
import { Thread } from './thread.js'

/** `idle`: no conversation. The others are those of the connection, and `refused`: the relay said no for good. */
export type Connection = 'idle' | LiveState | 'refused'

/** A token of the customer's server, or a function that brings a new one. */
export type Identity = string | (() => string | Promise<string>)

export interface SessionOptions {
  relay: string
  organization: string
  backoff?: Backoff
}

export interface SessionEvents {
  /** Something that a view shows has changed. */
  changed(): void
  /** A message that was not here before, and is no history. */
  message(row: MessageRow, isReplayed: boolean): void
  unread(count: number): void
  connection(state: Connection): void
  error(error: ApiError): void
}

/** Between tries after a failure. */
const BACKOFF: Backoff = { minMs: 1_000, maxMs: 30_000 }

const PAGE = 50
/** When older messages are fetched to count unread ones. */
const PAGE_MAX = 200

/** Codes after which a conversation cannot be had back, so that the next message begins another one. */
const GONE = new Set(['token_invalid', 'conversation_not_found'])

/** Codes that another token may mend. */
const OLD_TOKEN = new Set(['token_expired', 'token_invalid'])

export class Session {
  readonly thread = new Thread()
  readonly outbox: Outbox
  readonly #options: SessionOptions
  readonly #api: Api
  readonly #memory: Memory
  readonly #events: SessionEvents
  readonly #backoff: Backoff
  #grant: Grant | null = null
  #opening: Promise<Grant | null> | null = null
  #live: Live | null = null
  /** Where the stream resumes, also after it was let go. */
  readonly #positions = new Map<string, string>()
  #identity: Identity | null = null
  #context: Record<string, unknown> = {}
  #isStarted = false
  /** Counts the conversations: an answer about an earlier one comes too late. */
  #era = 0
  /** Counts the visitors: what the one before asked for is not for the next one. */
  #visitor = 0
  #connection: Connection = 'idle'
  #resumeTimer: ReturnType<typeof setTimeout> | undefined
  #resumeAttempt = 0
  #fetching: Promise<void> | null = null
  #isFetchWanted = false
  #reported = 0
  /** Ids of messages of which the page was told: a fetch may be ahead of the stream. */
  readonly #told = new Set<string>()
  #reading: string | null = null
  /** The visitor has written here, so the browser may keep the conversation. */
  #mayKeep: boolean

  constructor(options: SessionOptions, memory: Memory, events: SessionEvents) {
    this.#options = options
    this.#memory = memory
    this.#events = events
    this.#backoff = options.backoff ?? BACKOFF
    this.#api = new Api(options.relay)
    this.#mayKeep = memory.load() !== null
    this.outbox = new Outbox({
      post: (draft) => this.#withToken((token) => this.#api.send(token, draft.content, draft.key)),
      sent: (row) => this.#arrived(row, false),
      changed: () => {
        memory.keepDrafts(this.outbox.pending)
        events.changed()
      },
      failed: (error) => this.#report(error),
    }, this.#backoff, memory.loadDrafts())
  }

  get connection(): Connection {
    return this.#connection
  }

  get conversationId(): string | null {
    return this.#grant?.conversationId ?? null
  }

  /** Whether messages are on their way here for the first time. */
  get isLoading(): boolean {
    return !this.thread.isLoaded && (this.#opening !== null || this.#grant !== null)
  }

  /** Whether an agent is there; null before the relay has said. */
  get agentsOnline(): boolean | null {
    return this.#live?.agentsOnline ?? null
  }

  get isTeamTyping(): boolean {
    return this.#live?.isTeamTyping ?? false
  }

  /** Connects if there is a conversation already. */
  start(): void {
    if (this.#isStarted) return
    this.#isStarted = true
    if (this.#grant) this.#connect(this.#grant)
    else if (this.#memory.load() || this.#identity !== null) this.#resume()
    this.outbox.reopen()
  }

  /** Lets go of the connection; `start()` goes on. */
  stop(): void {
    this.#isStarted = false
    clearTimeout(this.#resumeTimer)
    this.outbox.close()
    this.#disconnect()
    this.#setConnection('idle')
  }

  send(content: string): void {
    this.#mayKeep = true
    if (this.#grant) this.#keep(this.#grant)
    this.#live?.typing(false)
    this.outbox.add(content)
  }

  typing(isTyping: boolean): void {
    this.#live?.typing(isTyping)
  }

  /** Something says that the network may be back, or that the page has slept. */
  wake(): void {
    if (!this.#isStarted) return
    this.#live?.probe()
    this.outbox.wake()
    if (this.#resumeTimer !== undefined) this.#resume()
  }

  offline(): void {
    this.#live?.offline()
  }

  /** Another tab has begun a conversation, or left the one that was shared. */
  isRemembered(event: { key: string | null }): boolean {
    return this.#memory.isAbout(event)
  }

  remembered(): void {
    const kept = this.#memory.load()
    if (kept?.conversationId === this.conversationId) return
    if (!kept && !this.#mayKeep) return
    // What this tab has not sent yet follows, if there is a conversation to send it to.
    this.#leave()
    if (!kept) this.outbox.clear()
    this.#mayKeep = kept !== null
    if (kept && this.#isStarted) this.#resume()
    this.#changed()
  }

  setContext(context: Record<string, unknown>): void {
    this.#context = { ...this.#context, ...context }
  }

  /** Binds the visitor to an identity that the customer's server has signed. */
  async identify(identity: Identity): Promise<void> {
    this.#identity = identity
    await this.#opening?.catch(() => {})
    if (identity !== this.#identity) return
    // The one that it may have elsewhere; a first one begins with the first message.
    if (!this.#grant && !this.#memory.load()) return this.#resume()
    const era = this.#era
    try {
      const signed = await this.#signed()
      const grant = await this.#withToken((token) => this.#api.identify(token, signed!))
      if (era === this.#era) this.#granted(grant)
    } catch (error) {
      if (era !== this.#era || !(error instanceof ApiError) || error.code !== 'identity_conflict') return this.#report(error)
      // Somebody else used this browser before, and did not log out: their conversation is not for this visitor.
      this.#forget()
      this.#identity = identity
      this.#resume()
    }
  }

  /** The visitor logs out: this browser forgets the conversation. */
  reset(): void {
    this.#context = {}
    this.#forget()
  }

  #forget(): void {
    this.#visitor += 1
    this.#opening = null
    this.#identity = null
    this.#mayKeep = false
    this.#memory.forget()
    this.outbox.clear()
    this.#leave()
    this.#changed()
  }

  /** The visitor has everything before their eyes. */
  markRead(): void {
    const newest = this.thread.newestUnread
    if (!newest || this.#reading === newest.id || !this.#grant) return
    this.#reading = newest.id
    const era = this.#era
    this.#withToken((token) => this.#api.read(token, newest.id)).then(
      (receipt) => {
        if (era === this.#era) this.#read(receipt)
      },
      (error: unknown) => {
        // Again with the next message, or when the visitor comes back.
        if (this.#reading === newest.id) this.#reading = null
        if (!isTransient(error)) this.#report(error)
      },
    )
  }

  async loadOlder(limit = PAGE): Promise<void> {
    const { cursor } = this.thread
    if (cursor === null) return
    const era = this.#era
    try {
      const page = await this.#withToken((token) => this.#api.messages(token, limit, cursor))
      if (era === this.#era && cursor === this.thread.cursor && !this.thread.older(page.messages, page.cursor).length) {
        // The stream had brought all of them.
        return this.loadOlder(limit)
      }
    } catch (error) {
      this.#report(error)
    }
    this.#changed()
  }

  /** The id that a pending message will have, once there is a conversation. */
  idOf({ key }: Pending): string | null {
    return this.#grant && messageId(key, this.#grant.conversationId)
  }

  // The leave to act

  /** Runs a request with a token, and once more with a new one if the relay says that it is old. */
  async #withToken<Answer>(call: (token: string) => Promise<Answer>): Promise<Answer> {
    const visitor = this.#visitor
    const grant = this.#grant ?? await this.#begin()
    try {
      return await call(grant.token)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !OLD_TOKEN.has(error.code)) throw error
      if (visitor !== this.#visitor) throw error
      // Another request may have brought one meanwhile.
      const { token } = this.#grant && this.#grant.token !== grant.token ? this.#grant : await this.#begin()
      return call(token)
    }
  }

  /** Resumes the conversation, or begins one. */
  async #begin(): Promise<Grant> {
    // A request that was underway may only have looked for one.
    return await this.#open(true) ?? (await this.#open(true))!
  }

  /** Resumes the conversation; null: there is none. All who ask at once share one request. */
  #open(create: boolean): Promise<Grant | null> {
    if (this.#opening) return this.#opening
    const opening = this.#authorize(create).finally(() => {
      if (this.#opening === opening) this.#opening = null
      this.#events.changed()
    })
    return (this.#opening = opening)
  }

  async #authorize(create: boolean): Promise<Grant | null> {
    const visitor = this.#visitor
    const left = () => new ApiError('reset', 'the visitor has left the conversation')
    return alone(`campfire:${this.#options.organization}`, async () => {
      if (visitor !== this.#visitor) throw left()
      // Another tab may have begun one while this one waited.
      const grant = await this.#authOrBegin(this.#grant?.token ?? this.#memory.load()?.token, visitor, create)
      if (visitor !== this.#visitor) throw left()
      // Kept before another tab looks.
      if (grant) this.#granted(grant)
      return grant
    })
  }

  async #authOrBegin(token: string | undefined, visitor: number, create: boolean): Promise<Grant | null> {
    try {
      return await this.#auth(token, token === undefined, create)
    } catch (error) {
      if (!(error instanceof ApiError) || token === undefined || visitor !== this.#visitor) throw error
      if (error.code === 'identity_required' && this.#identity !== null) return this.#auth(token, true, create)
      if (!GONE.has(error.code)) throw error
      this.#begone(error)
      // What is unsent goes to a new one.
      const isUnsent = this.outbox.pending.length > 0
      if (isUnsent || this.#identity !== null) return this.#auth(undefined, true, isUnsent || create)
      throw error
    }
  }

  /** A token is enough to go on, so that an identity that was signed long ago does no harm. */
  async #auth(token: string | undefined, withIdentity: boolean, create: boolean): Promise<Grant | null> {
    const { name, email, ...context } = this.#context
    const identity = withIdentity ? await this.#signed() : null
    const request: AuthRequest = {
      organizationId: this.#options.organization,
      ...(token !== undefined && { token }),
      ...(identity !== null && { identity }),
      ...(typeof name === 'string' && { name }),
      ...(typeof email === 'string' && { email }),
      ...(Object.keys(context).length > 0 && { context }),
      ...(!create && { create }),
    }
    return this.#api.auth(request)
  }

  async #signed(): Promise<string | null> {
    if (this.#identity === null) return null
    try {
      return typeof this.#identity === 'string' ? this.#identity : await this.#identity()
    } catch (error) {
      throw new ApiError('identity_unavailable', `identify()'s function failed: ${(error as Error).message}`)
    }
  }

  #granted(grant: Grant): void {
    const isOther = this.#grant?.conversationId !== grant.conversationId
    if (isOther && this.#grant) this.#leave()
    this.#grant = grant
    if (this.#mayKeep) this.#keep(grant)
    if (isOther && this.#isStarted) this.#connect(grant)
    this.#changed()
  }

  #keep({ conversationId, token }: Grant): void {
    this.#memory.keep({ conversationId, token })
  }

  /** Tries until it works, or will never. */
  #resume(): void {
    clearTimeout(this.#resumeTimer)
    this.#resumeTimer = undefined
    if (this.#grant || !this.#isStarted) return
    this.#setConnection('connecting')
    const era = this.#era
    this.#open(false).then(() => {
      this.#resumeAttempt = 0
      if (!this.#grant) this.#setConnection('idle')
    }, (error: unknown) => {
      if (era !== this.#era || !this.#isStarted) return
      this.#report(error)
      if (!isTransient(error)) return this.#setConnection('refused')
      this.#setConnection('reconnecting')
      const wait = delay(error, this.#resumeAttempt++, this.#backoff)
      this.#resumeTimer = setTimeout(() => this.#resume(), wait)
    })
  }

  /** The conversation was deleted, or its token is too old to be renewed. */
  #begone(error: ApiError): void {
    this.#memory.forget()
    this.#memory.keepDrafts(this.outbox.pending)
    this.#mayKeep = this.outbox.pending.length > 0
    this.#leave()
    this.#report(error)
    this.#changed()
  }

  /** Forgets the conversation, not what is unsent. */
  #leave(): void {
    this.#era += 1
    clearTimeout(this.#resumeTimer)
    this.#resumeTimer = undefined
    this.#disconnect()
    this.#grant = null
    this.#reading = null
    this.#positions.clear()
    this.#told.clear()
    this.thread.clear()
    this.#setConnection('idle')
  }

  // The stream

  #connect(grant: Grant): void {
    // One that resumes says itself what is missing.
    let isNew = this.#positions.size === 0
    const live: Live = new Live(this.#options.relay, grant, this.#positions, {
      getToken: () => this.#freshToken(),
      joined: () => {
        // What came before the first join is fetched, also if some was fetched earlier; later joins catch up by position.
        if (isNew) this.#fetchAnew()
        else if (!this.thread.isLoaded) this.#fetch()
        isNew = false
        this.outbox.wake()
      },
      incomplete: () => this.#fetchAnew(),
      message: (row, isReplayed) => this.#arrived(row, isReplayed),
      updated: (row) => {
        this.thread.update(row)
        this.#changed()
      },
      deleted: (id) => {
        this.thread.remove(id)
        this.#changed()
      },
      receipt: (receipt) => this.#read(receipt),
      conversation: (row: ConversationRow | null) => {
        if (row === null) this.#begone(new ApiError('conversation_not_found', 'the conversation was deleted', 404))
      },
      state: (state) => this.#setConnection(state),
      error: (error) => this.#report(error),
      changed: () => this.#events.changed(),
    })
    this.#live = live
    void live.start()
    // A network that lets no sockets through must not hide what was said.
    setTimeout(() => {
      if (this.#live === live && !this.thread.isLoaded && !this.#fetching) this.#fetch()
    }, 2_000)
  }

  #disconnect(): void {
    this.#live?.close()
    this.#live = null
  }

  /** For the stream: the token that it does not have yet, or a new one. */
  async #freshToken(): Promise<string> {
    const grant = this.#grant
    if (grant && !this.#live?.hasUsed(grant.token)) return grant.token
    return (await this.#begin()).token
  }

  #fetchAnew(): void {
    this.thread.gap()
    this.#fetch()
  }

  /** Fetches the newest messages, and as many older ones as are needed. */
  #fetch(): void {
    this.#isFetchWanted = true
    this.#fetching ??= this.#fetchAll().finally(() => {
      this.#fetching = null
    })
  }

  async #fetchAll(): Promise<void> {
    for (let attempt = 0; this.#isFetchWanted && this.#isStarted; ) {
      this.#isFetchWanted = false
      const era = this.#era
      try {
        const page = await this.#withToken((token) => this.#api.messages(token, PAGE, null))
        // It may be from before what it was wanted again for.
        if (era !== this.#era || this.#isFetchWanted) continue
        const wasLoaded = this.thread.isLoaded
        const added = this.thread.latest(page.messages, page.cursor)
        for (const receipt of page.receipts) this.thread.receive(receipt)
        this.#settle(added)
        // After a gap these are news; at first they are history.
        if (wasLoaded) this.#tell(added, true)
        this.#changed()
        for (let pages = 0; pages < 20 && era === this.#era && this.thread.isCut; pages += 1) {
          const before = this.thread.cursor
          await this.loadOlder(PAGE_MAX)
          if (this.thread.cursor === before) break
        }
        attempt = 0
      } catch (error) {
        if (era !== this.#era) continue
        if (!isTransient(error)) return this.#report(error)
        this.#isFetchWanted = true
        const wait = delay(error, attempt++, this.#backoff)
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  #arrived(row: MessageRow, isReplayed: boolean): void {
    this.thread.add([row])
    this.#settle([row])
    this.#tell([row], isReplayed)
    this.#changed()
  }

  /** Takes out of the outbox what is stored. */
  #settle(rows: readonly MessageRow[]): void {
    for (const pending of [...this.outbox.pending]) {
      const id = this.idOf(pending)
      const row = rows.find((row) => row.id === id)
      if (!row) continue
      this.#tell([row], false)
      this.outbox.remove(pending.key)
    }
  }

  /** Tells the page, of each once. */
  #tell(rows: readonly MessageRow[], isReplayed: boolean): void {
    for (const row of rows) if (!this.#told.has(row.id) && this.#told.add(row.id)) this.#events.message(row, isReplayed)
  }

  #read(receipt: ReceiptRow): void {
    this.thread.receive(receipt)
    this.#changed()
  }

  // What others hear

  #changed(): void {
    const { unread } = this.thread
    if (unread !== this.#reported) {
      this.#reported = unread
      this.#events.unread(unread)
    }
    this.#events.changed()
  }

  #setConnection(state: Connection): void {
    if (state === this.#connection) return
    this.#connection = state
    this.#events.connection(state)
    this.#events.changed()
  }

  #report(error: unknown): void {
    if (error instanceof ApiError) {
      // The visitor's own doing.
      if (error.code !== 'reset') this.#events.error(error)
    } else {
      const message = error instanceof Error ? error.message : String(error)
      this.#events.error(new ApiError('unexpected', message))
    }
  }
}

/** Runs this while no other tab does, so that two tabs do not begin two conversations. */
function alone<Result>(name: string, run: () => Promise<Result>): Promise<Result> {
  // Pages without a secure context have no locks.
  const locks = globalThis.navigator?.locks as LockManager | undefined
  return locks ? locks.request(name, run) as Promise<Result> : run()
}
