// The list of conversations, latest first: pages of the API, moved on by events. Pure: no requests, no page.
import {
  type Conversation, type ConversationStatus, isForAgents, type ListedConversation, type Message, type Priority,
} from './rows.js'

export interface Filter {
  status: ConversationStatus | null
  priority: Priority | null
  assignee: 'me' | 'none' | null
  search: string
}

export const UNFILTERED: Filter = { status: null, priority: null, assignee: null, search: '' }

export interface Row extends ListedConversation {
  /** The newest message that the API's answer counted. */
  countedUntil: string | null
  /** This agent has read up to here in this tab, whatever an answer on its way still says. */
  readUntil: string | null
  /** Messages by id that came as events and are newer than what the API counted. */
  recent: Map<string, Arrival>
  /** The position of the last event of the row itself; null if it came from the API. */
  position: string | null
}

/** What is kept of a message that came as an event. */
type Arrival = Pick<Message, 'created_at' | 'sender_type'>

/**
 * `applied`: the row shows it. `unsure`: the row may be wrong, the API has to be asked. `unknown`: there is no such row.
 */
export type Outcome = 'applied' | 'unsure' | 'unknown'

/** Beyond this the API counts. */
const RECENT_MAX = 1_000

/** How much of a message the API shows in a list. */
const PREVIEW_CHARACTERS = 200

export class ConversationList {
  /** All that are known; also those that the filter leaves out, since one of them may be open. */
  readonly #rows = new Map<string, Row>()
  readonly #me: string | null
  #order: Row[] = []
  #filter: Filter = UNFILTERED
  /** Where the next page begins; null after the last one. */
  #cursor: string | null = null
  /** The last row of the pages: what is older comes with the next page. */
  #boundary: Conversation | null = null
  /** With a search, only the API knows what belongs here. */
  #found: Set<string> | null = null
  /** Those that were deleted, by the position of that: an answer on its way, or another channel, may not know yet. */
  readonly #deleted = new Map<string, string | null>()
  /** Known from before events were lost, and not spoken of since: they may be gone. */
  #doubtful = new Set<string>()

  constructor(me: string | null) {
    this.#me = me
  }

  /** The rows that the filter lets through, latest first. */
  get order(): readonly Row[] {
    return this.#order
  }

  get filter(): Filter {
    return this.#filter
  }

  get cursor(): string | null {
    return this.#cursor
  }

  get(id: string): Row | undefined {
    return this.#rows.get(id)
  }

  indexOf(id: string): number {
    const row = this.#rows.get(id)
    if (!row) return -1
    const index = this.#place(row)
    return this.#order[index] === row ? index : -1
  }

  /** Shows nothing until the first page for this filter comes, and forgets all rows but the open one. */
  filterBy(filter: Filter, open: string | null): void {
    this.#filter = filter
    this.#found = filter.search ? new Set() : null
    this.#order = []
    this.#cursor = null
    this.#boundary = null
    for (const id of this.#rows.keys()) if (id !== open) this.#rows.delete(id)
  }

  /** Events were lost: the next first page says which of the rows are still there; the open one stays. */
  gap(open: string | null): void {
    this.#doubtful = new Set(this.#rows.keys())
    if (open !== null) this.#doubtful.delete(open)
  }

  /** A page of the API, the first one or the one that the cursor names. */
  addPage(conversations: ListedConversation[], cursor: string | null, isFirst: boolean): void {
    if (isFirst) {
      this.#order = []
      this.#found?.clear()
    }
    this.#cursor = cursor
    const last = conversations.at(-1)
    this.#boundary = cursor === null || !last ? null : { ...last }
    for (const conversation of conversations) {
      this.#found?.add(conversation.id)
      this.put(conversation)
    }
    if (!isFirst) return
    // Those that the page does not reach come again with theirs.
    for (const id of this.#doubtful) this.remove(id)
    this.#doubtful.clear()
    // What came as an event meanwhile.
    for (const row of this.#rows.values()) this.#show(row)
  }

  /** A row as the API has it. */
  put(conversation: ListedConversation): void {
    if (this.#deleted.has(conversation.id)) return
    this.#doubtful.delete(conversation.id)
    const known = this.#rows.get(conversation.id)
    const row: Row = known ?? {
      ...conversation, countedUntil: null, readUntil: null, recent: new Map(), position: null,
    }
    if (known) this.#hide(known)
    else this.#rows.set(row.id, row)
    const { last_message: newest } = row
    // An answer that is older than an event says nothing new of the columns.
    if (conversation.updated_at >= row.updated_at) Object.assign(row, conversation)
    row.verified = conversation.verified
    row.unread = conversation.unread
    row.countedUntil = conversation.last_message?.created_at ?? null
    const isNewer = newest !== null && isAfter(newest.created_at, row.countedUntil)
    row.last_message = isNewer ? newest : conversation.last_message
    // All of it was read, which the answer need not know yet.
    if (row.countedUntil && row.readUntil && row.countedUntil <= row.readUntil) row.unread = 0
    for (const [id, arrival] of row.recent) {
      if (isAfter(arrival.created_at, row.countedUntil)) this.#count(row, arrival)
      else row.recent.delete(id)
    }
    this.#show(row)
  }

  /** `conversation:created` or `conversation:updated`. */
  applyConversation(conversation: Conversation, position: string | null): Outcome {
    const { id } = conversation
    const deleted = this.#deleted.get(id)
    if (deleted !== undefined) {
      // It comes back only if it is moved away and here again.
      if (position === null || deleted === null || position <= deleted) return 'applied'
      this.#deleted.delete(id)
    }
    this.#doubtful.delete(id)
    const row = this.#rows.get(id)
    // Of what is not shown, nothing has to be known.
    if (!row) return this.#matches(conversation) && !this.#found ? 'unknown' : 'applied'
    if (conversation.updated_at < row.updated_at) return 'applied'
    // The same event comes on two channels, and one of them may be ahead of the other.
    if (position !== null && row.position !== null && position <= row.position) return 'applied'
    this.#hide(row)
    Object.assign(row, conversation, { position })
    this.#show(row)
    return 'applied'
  }

  /** `message:created`. */
  applyMessage(message: Message): Outcome {
    const row = this.#rows.get(message.conversation_id)
    if (!row) return 'unknown'
    this.#doubtful.delete(row.id)
    const { id, created_at, sender_type, content } = message
    if (row.recent.has(id)) return 'applied'
    // The API's answer may show it, or may not: it may have committed later than others that are newer.
    if (!isAfter(created_at, row.countedUntil) || row.recent.size >= RECENT_MAX) return 'unsure'
    this.#hide(row)
    if (created_at > row.updated_at) row.updated_at = created_at
    row.recent.set(id, { created_at, sender_type })
    this.#count(row, { created_at, sender_type })
    if (!row.last_message || created_at >= row.last_message.created_at) {
      row.last_message = { id, content: content.slice(0, PREVIEW_CHARACTERS), sender_type, created_at }
    }
    this.#show(row)
    return 'applied'
  }

  /** `conversation:deleted`. */
  delete(id: string, position: string | null): void {
    this.#deleted.set(id, position)
    this.remove(id)
  }

  /** The API does not have it, or no longer for this agent. */
  remove(id: string): void {
    const row = this.#rows.get(id)
    if (!row) return
    this.#hide(row)
    this.#rows.delete(id)
  }

  /** This agent has read everything up to a message. */
  markRead(id: string, upTo: { created_at: string }): void {
    const row = this.#rows.get(id)
    if (!row || !isAfter(upTo.created_at, row.readUntil)) return
    row.readUntil = upTo.created_at
    row.unread = 0
    for (const arrival of row.recent.values()) this.#count(row, arrival)
  }

  #count(row: Row, { created_at, sender_type }: Arrival): void {
    if (isForAgents(sender_type) && isAfter(created_at, row.readUntil)) row.unread += 1
  }

  #matches({ id, status, priority, assignee_id }: Conversation): boolean {
    const filter = this.#filter
    if (filter.status && status !== filter.status) return false
    if (filter.priority && priority !== filter.priority) return false
    if (filter.assignee === 'none' && assignee_id !== null) return false
    if (filter.assignee === 'me' && assignee_id !== this.#me) return false
    return !this.#found || this.#found.has(id)
  }

  #show(row: Row): void {
    if (!this.#matches(row)) return
    if (this.#boundary && isAbove(this.#boundary, row)) return
    const index = this.#place(row)
    if (this.#order[index] !== row) this.#order.splice(index, 0, row)
  }

  /** Takes a row out before its place changes. */
  #hide(row: Row): void {
    const index = this.#place(row)
    if (this.#order[index] === row) this.#order.splice(index, 1)
  }

  /** Where a row is, or belongs. */
  #place(row: Row): number {
    let [low, high] = [0, this.#order.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (isAbove(this.#order[middle]!, row)) low = middle + 1
      else high = middle
    }
    return low
  }
}

const isAfter = (time: string, other: string | null): boolean => other === null || time > other

/** The API's order: (updated_at descending, id). */
function isAbove(one: Conversation, other: Conversation): boolean {
  return one.updated_at === other.updated_at ? one.id < other.id : one.updated_at > other.updated_at
}
