// The open chat: header, messages, composer.
import type { Locale } from '../locale.js'
import type { Options } from '../options.js'
import type { Session } from '../session.js'
import { Composer } from './composer.js'
import { h, icon, setText } from './dom.js'
import { Log } from './log.js'

/** A connection that is back at once is nobody's concern. */
const HINT_AFTER_MS = 1_500
/** So near the end counts as at the end. */
const END_PX = 48

export interface PanelHost {
  close(): void
  /** The visitor sees the newest message. */
  seen(): void
}

export class Panel {
  readonly element: HTMLElement
  readonly composer: Composer
  readonly #session: Session
  readonly #locale: Locale
  readonly #host: PanelHost
  readonly #log: Log
  readonly #scroll: HTMLElement
  readonly #presence: HTMLElement
  readonly #hint: HTMLElement
  readonly #earlier: HTMLButtonElement
  readonly #newest: HTMLButtonElement
  readonly #typing: HTMLElement
  #hintTimer: ReturnType<typeof setTimeout> | undefined

  constructor(session: Session, options: Options, locale: Locale, host: PanelHost) {
    this.#session = session
    this.#locale = locale
    this.#host = host
    this.#log = new Log(session, locale)
    this.composer = new Composer({
      send: (content) => {
        session.send(content)
        this.update()
        this.#toEnd()
      },
      typing: (isTyping) => session.typing(isTyping),
    }, locale)
    this.#presence = h('span')
    this.#hint = h('p', { class: 'hint', role: 'status' })
    this.#earlier = h('button', { class: 'earlier', type: 'button', click: () => void this.#loadEarlier() }, locale.earlier)
    this.#newest = h('button', { class: 'newest', type: 'button', click: () => this.#toEnd() }, icon('down'), locale.newest)
    this.#newest.hidden = true
    this.#typing = h('div', { class: 'typing', role: 'status' })
    const title = options.title ?? locale.title
    this.#scroll = h('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': locale.log, scroll: () => this.#scrolled() },
      h('div', { class: 'welcome' },
        h('span', { class: 'avatar big', 'aria-hidden': 'true' }, icon('chat')),
        h('p', { dir: 'auto' }, options.greeting ?? locale.greeting)),
      this.#earlier, this.#log.element, this.#typing)
    this.element = h('section', { class: 'panel', id: 'panel', role: 'dialog', 'aria-labelledby': 'title', tabindex: '-1' },
      h('header', {},
        h('div', { class: 'titles' },
          h('h2', { id: 'title', dir: 'auto' }, title),
          h('p', { class: 'presence' }, h('i', { 'aria-hidden': 'true' }), this.#presence)),
        h('button', { class: 'close', type: 'button', 'aria-label': locale.close, click: () => host.close() }, icon('close'))),
      this.#hint, this.#scroll, this.#newest, this.composer.element)
    this.element.hidden = true
  }

  get isAtEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll
    return scrollHeight - scrollTop - clientHeight < END_PX
  }

  open(): void {
    this.element.hidden = false
    this.update()
    this.#toEnd()
  }

  close(): void {
    this.element.hidden = true
  }

  destroy(): void {
    clearTimeout(this.#hintTimer)
  }

  update(): void {
    const wasAtEnd = this.isAtEnd
    const newest = this.#session.thread.newestUnread?.id
    const added = this.#log.update()
    this.#showPresence()
    this.#showHint()
    this.#showTyping()
    this.#earlier.hidden = this.#session.thread.cursor === null
    this.#scroll.classList.toggle('loading', this.#session.isLoading)
    if (this.element.hidden) return
    if (wasAtEnd) this.#toEnd()
    else if (added > 0 && newest !== undefined) this.#newest.hidden = false
    if (this.isAtEnd) this.#host.seen()
  }

  #toEnd(): void {
    this.#scroll.scrollTop = this.#scroll.scrollHeight
    this.#newest.hidden = true
  }

  #scrolled(): void {
    if (!this.isAtEnd) return
    this.#newest.hidden = true
    if (!this.element.hidden) this.#host.seen()
  }

  async #loadEarlier(): Promise<void> {
    const log = this.#log.element
    this.#earlier.disabled = true
    // They are no news: a screen reader leaves out what comes while it is busy.
    log.setAttribute('aria-busy', 'true')
    const { scrollHeight, scrollTop } = this.#scroll
    await this.#session.loadOlder()
    this.update()
    this.#scroll.scrollTop = scrollTop + this.#scroll.scrollHeight - scrollHeight
    log.removeAttribute('aria-busy')
    this.#earlier.disabled = false
    if (this.#earlier.hidden) this.#scroll.focus({ preventScroll: true })
  }

  #showPresence(): void {
    const isOnline = this.#session.agentsOnline === true && this.#session.connection === 'connected'
    this.element.classList.toggle('online', isOnline)
    setText(this.#presence, isOnline ? this.#locale.online : this.#locale.away)
  }

  #showHint(): void {
    const { connection } = this.#session
    const text = connection === 'idle' || connection === 'connected' ? '' : this.#locale[connection]
    clearTimeout(this.#hintTimer)
    const show = () => {
      setText(this.#hint, text)
      this.#hint.classList.toggle('shown', text !== '')
    }
    if (text === '' || this.#hint.textContent !== '') show()
    else this.#hintTimer = setTimeout(show, HINT_AFTER_MS)
  }

  #showTyping(): void {
    const { isTeamTyping } = this.#session
    if (isTeamTyping === this.#typing.hasChildNodes()) return
    const name = this.#session.thread.messages.findLast(({ sender_type }) => sender_type === 'agent')?.sender_name
    this.#typing.replaceChildren(...isTeamTyping
      ? [h('span', { class: 'dots', 'aria-hidden': 'true' }, h('i'), h('i'), h('i')),
        h('span', { class: 'hidden' }, `${name ?? this.#locale.agent} ${this.#locale.typing}`)]
      : [])
  }
}
