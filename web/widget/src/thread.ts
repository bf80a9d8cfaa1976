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
  /** The oldest message of the pages: what is here and older came by itself, and what lies between may be missing. */
  #edge: MessageRow | undefined
  /** What was here when the stream began or lost events: what followed it may be missing. */
  #before: ReadonlySet<string> | null = null
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

  /** Events are missing after what is here. The next answer of the API comes from after the gap. */
  gap(): void {
    if (this.#isLoaded) this.#before = new Set(this.#ids)
  }

  /**
   * The newest messages, as the API answers them: ahead of the stream or behind it, which has everything since its last
   * gap. If the answer does not reach what was here before the gap, that makes room: something may be missing between.
   */
  latest(rows: readonly MessageRow[], cursor: string | null): MessageRow[] {
    const before = this.#before
    const reaches = cursor === null || !before || rows.some(({ id }) => before.has(id))
    this.#before = null
    if (!reaches) this.#messages = this.#messages.filter(({ id }) => !before.has(id) || !this.#ids.delete(id))
    if (!cursor || !reaches || !this.#isLoaded) {
      this.#cursor = cursor
      this.#edge = rows[0]
    }
    this.#isLoaded = true
    return this.add(rows)
  }

  /** A page of older messages; returns those that were not here. */
  older(rows: readonly MessageRow[], cursor: string | null): MessageRow[] {
    this.#cursor = cursor
    this.#edge = rows[0] ?? this.#edge
    return this.add(rows)
  }

  /** New words of a message that is here. */
  update(row: MessageRow): void {
    const index = this.#messages.findIndex(({ id }) => id === row.id)
    if (index >= 0) this.#messages[index] = { ...this.#messages[index]!, ...row }
  }

  /** Its id stays known: an answer from before the deletion does not bring it back. */
  remove(id: string): void {
    this.#messages = this.#messages.filter((message) => message.id !== id)
  }

  /** How far a side has read. It never goes back. */
  receive(receipt: ReceiptRow): void {
    const known = this.#receipts.get(receipt.reader_type)
    if (!known || this.#isBehind(known, receipt)) this.#receipts.set(receipt.reader_type, receipt)
  }

  /** Whether older pages are needed: they must reach back to the first that is here, and to the last that was read. */
  get isCut(): boolean {
    const read = this.#receipts.get('visitor')?.last_read_message_id
    return this.#cursor !== null && (!this.#messages.some(({ id }) => id === read)
      || this.#messages.some((message) => compare(message, this.#edge!) < 0))
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
    this.#messages = []
    this.#ids.clear()
    this.#receipts.clear()
    this.#cursor = this.#before = null
    this.#isLoaded = false
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
