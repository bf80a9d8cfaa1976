// What an agent sees and does: the list, the open conversation, who else is there. Requests and events meet here.
import { type Api, ApiError, type ConversationChange } from './api.js'
import { ConversationList, type Filter, type Row, UNFILTERED } from './conversation_list.js'
import type { Connection, Live, LivePorts, Sender } from './live.js'
import { Outbox } from './outbox.js'
import type { Agent, Conversation, Me, Message, Receipt } from './rows.js'
import { Thread, WINDOW } from './thread.js'

/** Rows that the API is asked for one by one; for more, it is asked for the list. With GATHER_MS, far below its rates. */
const SINGLE_ROWS_MAX = 3
/** Events that come together are answered together. */
const GATHER_MS = 250
const OLDER_PAGE = 200
/** A hint about typing whose end was lost. */
const TYPING_MAX_MS = 8_000
/** Another device of this agent may have read what is unread here. */
const RECOUNT_MS = 15_000
const COUNTED_MAX = 200
const DELAYS_MS = [1_000, 2_000, 4_000, 8_000, 15_000, 30_000]

export class Desk {
  readonly me: Me
  readonly list: ConversationList
  readonly outbox: Outbox
  connection: Connection = { isLive: false, reason: '' }
  agents: Map<string, Agent>
  online: ReadonlySet<string> = new Set()
  /** Of the open conversation. */
  thread: Thread | null = null
  viewers: ReadonlySet<string> = new Set()
  /** null before the relay has said. */
  isVisitorThere: boolean | null = null
  /** Who types in it, by kind and id. */
  readonly typing = new Map<string, Sender>()
  /** What is asked for and not there yet. */
  isListLoading = false
  isOlderLoading = false
  /** Why the open conversation cannot be shown. */
  threadError = ''
  /** What the agent should know, until it is put away. */
  notice = ''
  /** Changes that the API has not answered yet, of the open conversation. */
  changing: ConversationChange = {}
  readonly drafts = new Map<string, string>()

  readonly #api: Api
  readonly #onChange: () => void
  readonly #live: Live
  readonly #stale = new Set<string>()
  #gathering: ReturnType<typeof setTimeout> | undefined
  readonly #typingTimers = new Map<string, ReturnType<typeof setTimeout>>()
  /** Counts lists, so that the answer for an old filter is not shown. */
  #listing = 0
  #isReadUnderway = false
  #isCounting = false
  /** Other tabs of this agent in this browser: a hint to ask the API at once. */
  readonly #tabs: BroadcastChannel
  /** Both channels were joined: what commits from then on is told by events, or that it is missing. */
  #hasBegun = false
  #agentsAskedAt = -Infinity

  constructor(api: Api, me: Me, connect: (ports: LivePorts) => Live, onChange: () => void) {
    this.me = me
    this.#api = api
    this.#onChange = onChange
    this.list = new ConversationList(me.agent?.user_id ?? null)
    this.agents = new Map(me.agents.map((agent) => [agent.user_id, agent]))
    this.outbox = new Outbox({
      post: (conversation, content, clientKey) => api.send(conversation, content, clientKey),
      onSent: (message) => this.#receive(message),
      onChange,
    })
    this.#live = connect({
      onConversation: (conversation, position, isNew) => this.#move(conversation, position, isNew),
      onConversationDeleted: (id, position) => this.#remove(id, position),
      onMessage: (message) => this.#receive(message),
      onReceipt: (receipt) => this.#mark(receipt),
      onTyping: (conversation, sender, isTyping) => this.#type(conversation, sender, isTyping),
      onOnline: (agents) => {
        this.online = agents
        this.#learn(agents)
        onChange()
      },
      onViewers: (conversation, agents, isVisitorThere) => {
        if (this.thread?.conversation !== conversation) return
        this.viewers = agents
        this.isVisitorThere = isVisitorThere
        this.#learn(agents)
        onChange()
      },
      onOpened: (conversation) => this.#catchUp(conversation),
      onGap: (conversation) => {
        // Messages come on the organization's channel, too: of a conversation's own one, only marks are missing.
        if (conversation === null) this.#begin()
        else this.#catchUp(conversation)
      },
      onConnection: (now) => {
        const isBack = now.isLive && !this.connection.isLive
        this.connection = now
        if (isBack && this.#hasBegun) this.#back()
        else if (isBack) this.#begin()
        this.#hasBegun ||= isBack
        onChange()
      },
    })
    this.#tabs = new BroadcastChannel(`campfire:read:${me.organization.id}:${me.agent?.user_id}`)
    this.#tabs.onmessage = ({ data }) => this.#refresh(String(data))
    setInterval(() => void this.#recount(), RECOUNT_MS)
    void this.reload()
  }

  // The list ------------------------------------------------------------------

  filterBy(change: Partial<Filter>): void {
    this.list.filterBy({ ...this.list.filter, ...change }, this.thread?.conversation ?? null)
    void this.reload()
  }

  get isFiltered(): boolean {
    return JSON.stringify(this.list.filter) !== JSON.stringify(UNFILTERED)
  }

  /** The first page anew. */
  async reload(): Promise<void> {
    const listing = ++this.#listing
    this.isListLoading = true
    this.#onChange()
    const page = await persist(() => this.#api.conversations(this.list.filter, null), () => listing === this.#listing)
    if (listing !== this.#listing) return
    this.isListLoading = false
    if (page instanceof Error) this.notice = page.message
    else this.list.addPage(page.conversations, page.cursor, true)
    const open = this.thread?.conversation
    if (open && this.list.indexOf(open) < 0) this.#refresh(open)
    this.#onChange()
  }

  async loadMore(): Promise<void> {
    const { cursor } = this.list
    if (this.isListLoading || cursor === null) return
    const listing = this.#listing
    this.isListLoading = true
    const isWanted = () => listing === this.#listing
    const page = await persist(() => this.#api.conversations(this.list.filter, cursor), isWanted)
    if (!isWanted()) return
    this.isListLoading = false
    if (page instanceof Error) this.notice = page.message
    else this.list.addPage(page.conversations, page.cursor, false)
    this.#onChange()
  }

  /** The tab is looked at again, or the network is back. */
  resume(): void {
    this.#live.probe()
    void this.#recount()
  }

  /** Events begin here, or begin again: what came before them is read. */
  #begin(): void {
    const { thread } = this
    this.list.gap(thread?.conversation ?? null)
    void this.reload()
    if (!thread) return
    thread.gap()
    void this.#read(thread, WINDOW)
  }

  /** Events are caught up with by their positions; that something was read elsewhere has none. */
  #back(): void {
    this.outbox.retryAll()
    void this.#recount()
  }

  /** What was read elsewhere, of what shows as unread. */
  async #recount(): Promise<void> {
    const shown = this.list.order.filter(({ unread }) => unread > 0).slice(0, COUNTED_MAX)
    if (this.#isCounting || shown.length === 0) return
    this.#isCounting = true
    // In vain if the API is away: again soon.
    const counts = await this.#api.unread(shown.map(({ id }) => id)).catch(() => [])
    this.#isCounting = false
    for (const { conversation_id: id, unread } of counts) {
      if ((this.list.get(id)?.unread ?? 0) > unread) this.#refresh(id)
    }
  }

  // The open conversation -----------------------------------------------------

  get row(): Row | undefined {
    return this.thread ? this.list.get(this.thread.conversation) : undefined
  }

  async open(id: string): Promise<void> {
    if (this.thread?.conversation === id) return
    this.close()
    const thread = new Thread(id)
    this.thread = thread
    this.#live.open(id)
    this.#onChange()
    const isWanted = () => this.thread === thread
    const reading = this.#read(thread, WINDOW)
    const row = this.list.get(id) ? null : await persist(() => this.#api.conversation(id), isWanted)
    if (row && !(row instanceof Error) && isWanted()) {
      this.list.put(row)
      this.#onChange()
    }
    await reading
  }

  close(): void {
    this.#live.leave()
    this.thread = null
    this.threadError = ''
    this.viewers = new Set()
    this.isVisitorThere = null
    this.changing = {}
    this.isOlderLoading = false
    for (const timer of this.#typingTimers.values()) clearTimeout(timer)
    this.#typingTimers.clear()
    this.typing.clear()
    this.#onChange()
  }

  async loadOlder(): Promise<void> {
    const { thread } = this
    const cursor = thread?.cursor
    if (!thread || !cursor || this.isOlderLoading) return
    this.isOlderLoading = true
    this.#onChange()
    const isWanted = () => this.thread === thread
    const page = await persist(() => this.#api.messages(thread.conversation, cursor, OLDER_PAGE), isWanted)
    if (!isWanted()) return
    this.isOlderLoading = false
    if (page instanceof Error) this.notice = page.message
    else thread.addOlder(page.messages, page.cursor)
    this.#onChange()
  }

  send(content: string): void {
    const text = content.trim()
    if (!this.thread || !text) return
    this.#live.typing(false)
    this.outbox.send(this.thread.conversation, text)
    this.thread.showNewest()
    this.#onChange()
  }

  typeInto(isTyping: boolean): void {
    this.#live.typing(isTyping)
  }

  async change(change: ConversationChange): Promise<void> {
    const id = this.thread?.conversation
    if (!id) return
    this.changing = { ...this.changing, ...change }
    this.#onChange()
    try {
      this.list.put(await this.#api.change(id, change))
    } catch (error) {
      const { message, hint } = error as ApiError
      this.notice = `That could not be saved: ${message}${hint ? ` (${hint})` : ''}`
    }
    if (this.thread?.conversation === id) this.changing = {}
    this.#onChange()
  }

  /** The agent has the end of the open conversation before its eyes. */
  async attend(): Promise<void> {
    const { thread, row } = this
    const newest = thread?.messages.at(-1)
    if (!thread || thread.cursor === undefined || !newest || !row || this.#isReadUnderway || row.unread === 0) return
    const isAllRead = row.readUntil !== null && newest.created_at <= row.readUntil
    if (isAllRead) return
    this.#isReadUnderway = true
    const { readUntil } = row
    this.list.markRead(row.id, newest)
    this.#onChange()
    const isWanted = () => this.thread === thread
    const receipt = await persist(() => this.#api.read(row.id, newest.id), isWanted)
    this.#isReadUnderway = false
    if (receipt instanceof Error) {
      row.readUntil = readUntil
      this.#refresh(row.id)
    } else this.#tabs.postMessage(row.id)
    // What the API counted meanwhile.
    if (row.countedUntil !== null && row.countedUntil > newest.created_at) this.#refresh(row.id)
    this.#onChange()
  }

  // Events --------------------------------------------------------------------

  #move(conversation: Conversation, position: string | null, isNew: boolean): void {
    const outcome = this.list.applyConversation(conversation, position)
    if (outcome === 'unknown') {
      if (isNew) this.list.put({ ...conversation, unread: 0, verified: false, last_message: null })
      this.#refresh(conversation.id)
    }
    this.#onChange()
  }

  #remove(id: string, position: string | null): void {
    this.list.delete(id, position)
    if (this.thread?.conversation === id) this.threadError = 'This conversation was deleted.'
    this.#onChange()
  }

  #receive(message: Message): void {
    this.outbox.confirm(message.id)
    // Of a conversation that is not in the list, its own event tells.
    if (this.list.applyMessage(message) === 'unsure') this.#refresh(message.conversation_id)
    if (this.thread?.conversation === message.conversation_id) {
      this.thread.add(message)
      // Whoever has sent it has stopped typing.
      if (message.sender_type === 'visitor') this.#stopTyping('visitor')
    }
    this.#onChange()
  }

  #mark(receipt: Receipt): void {
    if (this.thread?.conversation === receipt.conversation_id) this.thread.addReceipt(receipt)
    this.#onChange()
  }

  #type(conversation: string, sender: Sender, isTyping: boolean): void {
    if (this.thread?.conversation !== conversation || !sender) return
    const key = sender.type === 'visitor' ? 'visitor' : `${sender.type}:${sender.id}`
    this.#stopTyping(key)
    if (isTyping) {
      this.typing.set(key, sender)
      this.#typingTimers.set(key, setTimeout(() => {
        this.#stopTyping(key)
        this.#onChange()
      }, TYPING_MAX_MS))
    }
    this.#onChange()
  }

  #stopTyping(key: string): void {
    clearTimeout(this.#typingTimers.get(key))
    this.#typingTimers.delete(key)
    this.typing.delete(key)
  }

  /** The newest messages and all marks, as the API has them now. */
  async #read(thread: Thread, limit: number): Promise<void> {
    const { gaps } = thread
    // From before a gap it says nothing of what came after that.
    const isWanted = () => this.thread === thread && thread.gaps === gaps
    const page = await persist(() => this.#api.messages(thread.conversation, null, limit), isWanted)
    if (!isWanted()) return
    if (page instanceof Error) {
      if (thread.cursor === undefined) this.threadError = page.message
    } else {
      for (const receipt of page.receipts) this.#mark(receipt)
      // Of a single message nobody knows what lies before it; the events bring it.
      if (limit > 1) thread.addNewest(page.messages, page.cursor)
      for (const { id } of page.messages) this.outbox.confirm(id)
    }
    this.#onChange()
  }

  /** Marks that are no events of the conversation's channel. */
  #catchUp(conversation: string): void {
    if (this.thread?.conversation === conversation) void this.#read(this.thread, 1)
  }

  /** Asks the API for a row, soon. */
  #refresh(id: string): void {
    this.#stale.add(id)
    this.#gathering ??= setTimeout(() => void this.#refreshAll(), GATHER_MS)
  }

  async #refreshAll(): Promise<void> {
    const ids = [...this.#stale]
    this.#stale.clear()
    if (ids.length > SINGLE_ROWS_MAX) await this.reload()
    else await Promise.all(ids.map((id) => this.#refreshOne(id)))
    // What became stale meanwhile, in its turn.
    this.#gathering = undefined
    if (this.#stale.size > 0) this.#refresh([...this.#stale][0]!)
  }

  async #refreshOne(id: string): Promise<void> {
    const listing = this.#listing
    const row = await persist(() => this.#api.conversation(id), () => listing === this.#listing)
    if (listing !== this.#listing) return
    if (!(row instanceof Error)) this.list.put(row)
    else if (row.status === 404) this.list.remove(id)
    this.#onChange()
  }

  /** Names of agents who came after this page. */
  #learn(ids: Set<string>): void {
    const isKnown = [...ids].every((id) => this.agents.has(id))
    if (isKnown || performance.now() - this.#agentsAskedAt < 30_000) return
    this.#agentsAskedAt = performance.now()
    void this.#api.me().then((me) => {
      this.agents = new Map(me.agents.map((agent) => [agent.user_id, agent]))
      this.#onChange()
    }, () => {})
  }

  nameOf(agent: string | null): string {
    return (agent && this.agents.get(agent)?.display_name) || 'An agent'
  }

  /** Conversations with something unread, among those that are listed. */
  get unreadConversations(): number {
    return this.list.order.reduce((sum, row) => sum + (row.unread > 0 ? 1 : 0), 0)
  }

  putNoticeAway(): void {
    this.notice = ''
    this.#onChange()
  }
}

/** Asks until there is an answer, a refusal that will stay, or nobody wants it any more. */
async function persist<Answer>(ask: () => Promise<Answer>, isWanted: () => boolean): Promise<Answer | ApiError> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await ask()
    } catch (error) {
      const failure = error instanceof ApiError ? error : new ApiError(401, 'signed_out', (error as Error).message)
      if (!failure.isPassing || !isWanted()) return failure
      const delay = DELAYS_MS[Math.min(attempt, DELAYS_MS.length - 1)]!
      await new Promise((resolve) => setTimeout(resolve, Math.max(delay * (0.5 + Math.random()), failure.retryAfterMs)))
      if (!isWanted()) return failure
    }
  }
}
