// The messages on screen. Elements are kept by the message's id and only ever added, so that a screen reader hears
// each message once, and a bubble that is confirmed stays where it is.
import { ApiError } from '../api.js'
import { parts } from '../links.js'
import type { Locale } from '../locale.js'
import type { Pending } from '../outbox.js'
import type { MessageRow } from '../rows.js'
import type { Session } from '../session.js'
import { h, setText } from './dom.js'

/** Messages of one sender that follow each other faster are one group: one name, one time. */
const GROUP_MS = 5 * 60_000

const TOO_LONG = new Set(['invalid', 'too_large'])

interface Item {
  key: string
  row: MessageRow | null
  pending: Pending | null
}

interface Entry {
  readonly element: HTMLElement
  readonly bubble: HTMLElement
  readonly meta: HTMLElement
  /** Its text changes, it is never added: what goes on with a message is no news to a screen reader. */
  readonly status: HTMLElement
  readonly sender: string
  readonly at: number
  readonly day: string
  // What the elements show now.
  content: string
  note: string
  state: string
  isFirst: boolean
  isLast: boolean
}

export class Log {
  readonly element: HTMLElement
  readonly #session: Session
  #locale: Locale
  #time: Intl.DateTimeFormat
  #date: Intl.DateTimeFormat
  readonly #entries = new Map<string, Entry>()
  readonly #days = new Map<string, HTMLElement>()

  constructor(session: Session, locale: Locale) {
    this.#session = session
    this.#locale = locale
    this.#time = new Intl.DateTimeFormat(locale.code, { hour: 'numeric', minute: '2-digit' })
    this.#date = new Intl.DateTimeFormat(locale.code, { weekday: 'long', day: 'numeric', month: 'long' })
    this.element = h('div', {
      class: 'log', role: 'log', 'aria-live': 'polite', 'aria-relevant': 'additions', 'aria-label': locale.log,
    })
  }

  /** Shows what the session has; returns how many elements are new. */
  update(): number {
    const items = this.#items()
    const known = this.#entries.size
    const entries = items.map((item) => this.#entryOf(item))
    const added = this.#entries.size - known
    const receipt = this.#receipt
    const wanted: HTMLElement[] = []
    entries.forEach((entry, index) => {
      const { row, pending } = items[index]!
      const [before, after] = [entries[index - 1], entries[index + 1]]
      if (before?.day !== entry.day) wanted.push(this.#day(entry.day, new Date(entry.at)))
      const [isFirst, isLast] = [!isOneGroup(before, entry), !isOneGroup(entry, after)]
      if (isFirst !== entry.isFirst) entry.element.classList.toggle('first', (entry.isFirst = isFirst))
      if (isLast !== entry.isLast) entry.element.classList.toggle('last', (entry.isLast = isLast))
      this.#show(entry, row?.content ?? pending!.content)
      this.#tell(entry, pending, pending ? this.#stateOf(pending) : row!.id === receipt?.id ? receipt.text : '')
      wanted.push(entry.element)
    })
    this.#place(wanted, items)
    return added
  }

  #items(): Item[] {
    const { thread, outbox } = this.#session
    const items: Item[] = thread.messages.map((row) => ({ key: row.id, row, pending: null }))
    for (const pending of outbox.pending) {
      const id = this.#session.idOf(pending)
      // It was put here before there was a conversation, and so an id.
      const early = this.#entries.get(pending.key)
      if (id !== null && early) {
        this.#entries.delete(pending.key)
        this.#entries.set(id, early)
      }
      if (id !== null && thread.has(id)) continue
      items.push({ key: id ?? pending.key, row: null, pending })
    }
    return items
  }

  #day(name: string, date: Date): HTMLElement {
    let element = this.#days.get(name)
    if (!element) {
      element = h('div', { class: 'day' }, h('span'))
      this.#days.set(name, element)
    }
    const now = new Date()
    const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1)
    const text = name === now.toDateString() ? this.#locale.today
      : name === yesterday.toDateString() ? this.#locale.yesterday : this.#date.format(date)
    setText(element.firstElementChild!, text)
    return element
  }

  #entryOf(item: Item): Entry {
    const known = this.#entries.get(item.key)
    if (known) return known
    const entry = this.#entry(item)
    this.#entries.set(item.key, entry)
    return entry
  }

  #entry({ row, pending }: Item): Entry {
    const at = row ? Date.parse(row.created_at) : pending!.at
    const type = row?.sender_type ?? 'visitor'
    const { you, agent, assistant } = this.#locale
    const name = type === 'visitor' ? you : row?.sender_name || (type === 'ai' ? assistant : agent)
    const bubble = h('div', { class: 'bubble', dir: 'auto' })
    const meta = h('div', { class: 'meta' })
    const isOurs = type === 'visitor'
    const element = h('div', { class: `message ${isOurs ? 'ours' : type === 'system' ? 'system' : 'theirs'} entering` })
    if (type !== 'system') {
      if (!isOurs) element.append(h('span', { class: 'avatar', 'aria-hidden': 'true' }, initial(name)))
      element.append(h('span', { class: isOurs ? 'hidden' : 'name', dir: 'auto' }, isOurs ? `${name}: ` : name))
    }
    element.append(bubble, meta)
    const date = new Date(at)
    const status = h('span', { class: 'status' })
    meta.append(h('time', { datetime: date.toISOString() }, this.#time.format(date)), status)
    return {
      element, bubble, meta, status, at,
      sender: type === 'visitor' ? type : `${type}:${name}`,
      day: date.toDateString(),
      content: '', note: '', state: '', isFirst: false, isLast: false,
    }
  }

  #show(entry: Entry, content: string): void {
    if (entry.content === content) return
    entry.content = content
    entry.bubble.replaceChildren(...parts(content).map(({ text, href }) =>
      href === null ? document.createTextNode(text)
        : h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow ugc' }, text)))
  }

  #tell(entry: Entry, pending: Pending | null, note: string): void {
    if (entry.note !== note) entry.status.textContent = entry.note = note
    const state = pending?.state ?? 'stored'
    if (entry.state === state) return
    entry.state = state
    entry.element.classList.toggle('pending', state === 'sending' || state === 'waiting')
    entry.element.classList.toggle('failed', state === 'failed')
    for (const button of entry.meta.querySelectorAll('button')) button.remove()
    if (!pending || state !== 'failed') return
    const { key } = pending
    entry.meta.append(
      h('button', { type: 'button', click: () => this.#session.outbox.retry(key) }, this.#locale.retry),
      h('button', { type: 'button', click: () => this.#session.outbox.remove(key) }, this.#locale.discard),
    )
  }

  #stateOf({ state, error }: Pending): string {
    if (state === 'sending') return this.#locale.sending
    if (state === 'waiting') return this.#locale.waiting
    return error instanceof ApiError && TOO_LONG.has(error.code) ? this.#locale.tooLong : this.#locale.failed
  }

  /** Under the newest message, if it is the visitor's own: whether it was read. */
  get #receipt(): { id: string; text: string } | null {
    const { thread, outbox } = this.#session
    const last = thread.messages.at(-1)
    if (last?.sender_type !== 'visitor' || outbox.pending.length > 0) return null
    return { id: last.id, text: thread.seen?.id === last.id ? this.#locale.seen : this.#locale.sent }
  }

  /** Puts the elements in order, and moves none that is in its place. */
  #place(wanted: HTMLElement[], items: Item[]): void {
    if (this.#entries.size > items.length || this.element.childElementCount > wanted.length) {
      const kept = new Set(wanted)
      for (const [key, { element }] of this.#entries) if (!kept.has(element)) this.#entries.delete(key)
      for (const [key, element] of this.#days) if (!kept.has(element)) this.#days.delete(key)
      for (const element of [...this.element.children]) if (!kept.has(element as HTMLElement)) element.remove()
    }
    wanted.forEach((element, index) => {
      const there = this.element.children[index]
      if (there !== element) this.element.insertBefore(element, there ?? null)
    })
  }
}

function isOneGroup(one: Entry | undefined, other: Entry | undefined): boolean {
  return one !== undefined && other !== undefined && one.sender === other.sender && one.day === other.day
    && other.at - one.at < GROUP_MS
}

/** Not half of a character that has two code units. */
const initial = (name: string) => ([...name.trim()][0] ?? '?').toLocaleUpperCase()
