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
  at: number
  sender: string
  row: MessageRow | null
  pending: Pending | null
}

interface Entry {
  element: HTMLElement
  bubble: HTMLElement
  meta: HTMLElement
  /** Its text changes, it is never added: what goes on with a message is no news to a screen reader. */
  status: HTMLElement
  /** What the elements show now. */
  content: string
  state: string
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
    const wanted: HTMLElement[] = []
    let added = 0
    let day = ''
    items.forEach((item, index) => {
      const date = new Date(item.at)
      const name = date.toDateString()
      if (name !== day) {
        day = name
        wanted.push(this.#day(name, date))
      }
      let entry = this.#entries.get(item.key)
      if (!entry) {
        added += 1
        entry = this.#entry(item)
        this.#entries.set(item.key, entry)
      }
      const [before, after] = [items[index - 1], items[index + 1]]
      entry.element.classList.toggle('first', !before || !isOneGroup(before, item))
      entry.element.classList.toggle('last', !after || !isOneGroup(item, after))
      this.#show(entry, item)
      wanted.push(entry.element)
    })
    this.#place(wanted)
    return added
  }

  #items(): Item[] {
    const { thread, outbox } = this.#session
    const items: Item[] = thread.messages.map((row) => ({
      key: row.id, at: Date.parse(row.created_at), sender: `${row.sender_type}:${row.sender_name ?? ''}`, row, pending: null,
    }))
    for (const pending of outbox.pending) {
      const id = this.#session.idOf(pending)
      // It was put here before there was a conversation, and so an id.
      const early = this.#entries.get(pending.key)
      if (id !== null && early) {
        this.#entries.delete(pending.key)
        this.#entries.set(id, early)
      }
      if (id !== null && thread.has(id)) continue
      items.push({ key: id ?? pending.key, at: pending.at, sender: 'visitor:', row: null, pending })
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

  #entry({ row, at }: Item): Entry {
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
    return { element, bubble, meta, status, content: '', state: '' }
  }

  #show(entry: Entry, { row, pending }: Item): void {
    const content = row?.content ?? pending!.content
    if (entry.content !== content) {
      entry.content = content
      entry.bubble.replaceChildren(...parts(content).map(({ text, href }) =>
        href === null ? document.createTextNode(text)
          : h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow ugc' }, text)))
    }
    setText(entry.status, pending ? this.#stateOf(pending) : row!.id === this.#receipt?.id ? this.#receipt.text : '')
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
  #place(wanted: HTMLElement[]): void {
    const kept = new Set(wanted)
    for (const [key, { element }] of this.#entries) if (!kept.has(element)) this.#entries.delete(key)
    for (const [key, element] of this.#days) if (!kept.has(element)) this.#days.delete(key)
    for (const element of [...this.element.children]) if (!kept.has(element as HTMLElement)) element.remove()
    wanted.forEach((element, index) => {
      const there = this.element.children[index]
      if (there !== element) this.element.insertBefore(element, there ?? null)
    })
  }
}

function isOneGroup(one: Item, other: Item): boolean {
  return one.sender === other.sender && other.at - one.at < GROUP_MS
    && new Date(one.at).toDateString() === new Date(other.at).toDateString()
}

/** Not half of a character that has two code units. */
const initial = (name: string) => ([...name.trim()][0] ?? '?').toLocaleUpperCase()
