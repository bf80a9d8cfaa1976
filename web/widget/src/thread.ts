// The messages of one conversation and how far each side has read them. Pure: rows go in, from the API and from
// events, in any order and more than once.
import type { MessageRow, ReceiptRow } from './rows.js'

/** Order of the conversation: by time, then by id, as the API pages it. */
function compare(one: MessageRow, other: MessageRow): number {
  if (one.created_at !== other.created_at) return one.created_at < other.created_at ? -1 : 1
  return one.id < other.id ? -1 : one.id > other.id ? 1 : 0
}

const isFromTeam = ({ sender_type }: MessageRow) => sender_type === 'agent' || sender_type === 'ai'

export class Thread {
  #messages: MessageRow[] = []
  readonly #ids = new Set<string>()
  readonly #receipts = new Map<string, ReceiptRow>()
  /** Where older messages begin; null if all are here. */
  #cursor: string | null = null
  /** Whether the API has answered: before, there are only messages that events brought. */
  #isLoaded = false

  get messages(): readonly MessageRow[] {
    return this.#messages
  }

  get cursor(): string | null {
    return this.#cursor
  }

  get isLoaded(): boolean {
    return this.#isLoaded
  }

  has(id: string): boolean {
    return this.#ids.has(id)
  }

  /** Adds what is not here yet, and returns it. */
  add(rows: readonly MessageRow[]): MessageRow[] {
    const added = rows.filter(({ id }) => !this.#ids.has(id) && this.#ids.add(id))
    if (added.length === 0) return added
    const last = this.#messages.at(-1)
    this.#messages.push(...added)
    if (added.length > 1 || (last && compare(last, added[0]!) > 0)) this.#messages.sort(compare)
    return added
  }

  /**
   * The newest messages, as the API answers them. If none of them is known, something may be missing between them
   * and what is here: then they replace it.
   */
  latest(rows: readonly MessageRow[], cursor: string | null): MessageRow[] {
    const isContinued = this.#isLoaded && (cursor === null || rows.some(({ id }) => this.#ids.has(id)))
    if (!isContinued) this.#cursor = cursor
    if (!isContinued && this.#isLoaded) this.#drop()
    this.#isLoaded = true
    return this.add(rows)
  }

  /** A page of older messages. */
  older(rows: readonly MessageRow[], cursor: string | null): void {
    this.#cursor = cursor
    this.add(rows)
  }

  /** New words of a message that is here. */
  update(row: MessageRow): void {
    const index = this.#messages.findIndex(({ id }) => id === row.id)
    if (index >= 0) this.#messages[index] = { ...this.#messages[index]!, ...row }
  }

  remove(id: string): void {
    if (this.#ids.delete(id)) this.#messages = this.#messages.filter((message) => message.id !== id)
  }

  /** How far a side has read. It never goes back. */
  receive(receipt: ReceiptRow): void {
    const known = this.#receipts.get(receipt.reader_type)
    if (!known || this.#isBehind(known, receipt)) this.#receipts.set(receipt.reader_type, receipt)
  }

  /** Whether the visitor's receipt speaks of a message that is not loaded: unread ones may be among the older. */
  get isUnreadCut(): boolean {
    const receipt = this.#receipts.get('visitor')
    return this.#cursor !== null && !(receipt && this.#ids.has(receipt.last_read_message_id))
  }

  /** Messages from the team that the visitor has not read. */
  get unread(): number {
    const from = this.#readUntil('visitor')
    return this.#messages.filter((message, index) => index > from && isFromTeam(message)).length
  }

  /** The newest message from the team if the visitor has not read it, else null. */
  get newestUnread(): MessageRow | null {
    const from = this.#readUntil('visitor')
    const index = this.#messages.findLastIndex(isFromTeam)
    return index > from ? this.#messages[index]! : null
  }

  /** The visitor's newest message that an agent has read, else null. */
  get seen(): MessageRow | null {
    const until = this.#readUntil('agent')
    return this.#messages.findLast(({ sender_type }, index) => index <= until && sender_type === 'visitor') ?? null
  }

  clear(): void {
    this.#drop()
    this.#receipts.clear()
    this.#cursor = null
    this.#isLoaded = false
  }

  #drop(): void {
    this.#messages = []
    this.#ids.clear()
  }

  /** Index of the last message that this side has read; -1 if none. */
  #readUntil(reader: 'visitor' | 'agent'): number {
    const receipt = this.#receipts.get(reader)
    if (!receipt) return -1
    const index = this.#messages.findIndex(({ id }) => id === receipt.last_read_message_id)
    if (index >= 0) return index
    // It was deleted, or lies among the older ones: then all that is here came after the reading.
    return this.#messages.findLastIndex(({ created_at }) => this.#cursor === null && created_at <= receipt.read_at)
  }

  #isBehind(known: ReceiptRow, other: ReceiptRow): boolean {
    const [a, b] = [known, other].map(({ last_read_message_id }) =>
      this.#messages.findIndex(({ id }) => id === last_read_message_id)) as [number, number]
    return a >= 0 && b >= 0 ? a < b : known.read_at <= other.read_at
  }
}
