// The messages of the open conversation: the newest page first, older ones as they are asked for, and a window of those
// that are on the page. Pure.
import { isOlder, type Message, type Receipt } from './rows.js'

/** Messages that are on the page at once, and by how many the window moves. */
export const WINDOW = 80
const STEP = 30

export class Thread {
  readonly conversation: string
  /** Oldest first. */
  #messages: Message[] = []
  readonly #known = new Map<string, Message>()
  /** Where the next older page begins; null if there is none, undefined before the first page. */
  #cursor: string | null | undefined = undefined
  /** The first message of the window. */
  #from = 0
  /** The window moves on with what comes. */
  #isAtEnd = true
  #visitorRead: Receipt | null = null
  /** What was known when events were lost, or before there were any: what followed it may be missing. */
  #before: ReadonlySet<string> | null = new Set()
  #gaps = 0

  constructor(conversation: string) {
    this.conversation = conversation
  }

  get messages(): readonly Message[] {
    return this.#messages
  }

  get cursor(): string | null | undefined {
    return this.#cursor
  }

  get window(): readonly Message[] {
    // Events may be faster than the first page.
    if (this.#cursor === undefined) return []
    return this.#messages.slice(this.#from, this.#from + WINDOW)
  }

  /** Nothing newer is known than what the window shows. */
  get reachesEnd(): boolean {
    return this.#from + WINDOW >= this.#messages.length
  }

  get hasKnownOlder(): boolean {
    return this.#from > 0
  }

  /** There may be older messages than the window shows: known ones, or another page. */
  get hasOlder(): boolean {
    return this.#from > 0 || (this.#cursor ?? null) !== null
  }

  has(id: string): boolean {
    return this.#known.has(id)
  }

  /** How often events were lost: an answer that was asked for before the last time may be from before it. */
  get gaps(): number {
    return this.#gaps
  }

  /** How far the visitor has read. */
  get visitorRead(): Receipt | null {
    return this.#visitorRead
  }

  /** Messages that the visitor has read are those up to this one. */
  isReadByVisitor(message: Message): boolean {
    const last = this.#visitorRead?.last_read_message_id
    const read = last ? this.#known.get(last) : undefined
    // A mark on an unknown message is on an older page than all that are known.
    return read !== undefined && !isOlder(read, message)
  }

  /** Events were lost: what follows what is known may be missing until the next newest page. */
  gap(): void {
    this.#gaps += 1
    this.#before = new Set(this.#known.keys())
  }

  /**
   * The newest page, ahead of the events or behind them: they have everything since the last gap. If the page does not
   * reach what was known before the gap, messages in between are unknown, and those before the page are forgotten: they
   * come again as older pages.
   */
  addNewest(messages: Message[], cursor: string | null): void {
    const before = this.#before
    this.#before = null
    const reaches = !before || messages.some(({ id }) => before.has(id))
    if (!reaches || this.#cursor === undefined) {
      this.#cursor = cursor
      if (cursor !== null) this.#forgetBefore(messages[0]!)
    }
    for (const message of messages) this.#insert(message)
    this.#follow()
  }

  /** The page before the oldest one that is known. */
  addOlder(messages: Message[], cursor: string | null): void {
    this.#cursor = cursor
    const added = messages.filter(({ id }) => !this.#known.has(id))
    for (const message of added) this.#known.set(message.id, message)
    // Usually all of them are older than all that are known.
    this.#messages = [...added, ...this.#messages]
    const isSorted = this.#messages.every((one, index, all) => index === 0 || !isOlder(one, all[index - 1]!))
    if (!isSorted) this.#messages.sort((one, other) => (isOlder(one, other) ? -1 : 1))
    this.#from += added.length
    // A window that was not full takes some of them.
    this.#follow()
  }

  /** `message:created`, or the answer to one's own. */
  add(message: Message): void {
    const oldest = this.#messages[0]
    // It comes with its page.
    if (this.#cursor && oldest && isOlder(message, oldest)) return
    this.#insert(message)
    this.#follow()
  }

  /** Marks go forward only; one on a message that is not known yet counts as newer. */
  addReceipt(receipt: Receipt): void {
    if (receipt.reader_type !== 'visitor') return
    if (this.#visitorRead && receipt.read_at < this.#visitorRead.read_at) return
    this.#visitorRead = receipt
  }

  /** Moves the window towards older messages; false if a page is needed first. */
  showOlder(): boolean {
    if (this.#from === 0) return false
    this.#from = Math.max(0, this.#from - STEP)
    this.#isAtEnd = false
    return true
  }

  showNewer(): void {
    this.#from = Math.max(0, Math.min(this.#from + STEP, this.#messages.length - WINDOW))
  }

  showNewest(): void {
    this.#isAtEnd = true
    this.#follow()
  }

  /** Whether the reader is at the end, so that the window follows what comes. */
  follow(isAtEnd: boolean): void {
    this.#isAtEnd = isAtEnd && this.reachesEnd
  }

  get follows(): boolean {
    return this.#isAtEnd
  }

  #follow(): void {
    if (this.#isAtEnd) this.#from = Math.max(0, this.#messages.length - WINDOW)
  }

  #forgetBefore(first: Message): void {
    const kept = this.#messages.filter((message) => !isOlder(message, first))
    if (kept.length === this.#messages.length) return
    this.#messages = kept
    this.#known.clear()
    for (const message of kept) this.#known.set(message.id, message)
    this.#from = 0
    this.#isAtEnd = true
  }

  #insert(message: Message): void {
    if (this.#known.has(message.id)) return
    this.#known.set(message.id, message)
    // Nearly always the last one.
    let index = this.#messages.length
    while (index > 0 && isOlder(message, this.#messages[index - 1]!)) index -= 1
    if (index === this.#messages.length) this.#messages.push(message)
    else this.#messages.splice(index, 0, message)
    // What is on the page stays there.
    if (index < this.#from) this.#from += 1
  }
}
