// What is in the shadow root: launcher and panel, for one locale.
import { accentOf } from '../color.js'
import type { Locale } from '../locale.js'
import type { Options } from '../options.js'
import type { Session } from '../session.js'
import { h, icon, setText } from './dom.js'
import { Panel } from './panel.js'

export interface ViewState {
  isOpen: boolean
  isShown: boolean
}

export interface ViewHost {
  readonly session: Session
  readonly options: Options
  readonly state: ViewState
  open(): void
  close(): void
}

const PHONE = '(max-width: 480px), (max-height: 480px)'

export class View {
  readonly element: HTMLElement
  readonly #host: ViewHost
  readonly #locale: Locale
  readonly #panel: Panel
  readonly #launcher: HTMLButtonElement
  readonly #badge: HTMLElement
  readonly #announcement: HTMLElement
  readonly #listening = new AbortController()
  readonly #phone = matchMedia(PHONE)
  #frame = 0
  #isOpen = false

  constructor(host: ViewHost, locale: Locale) {
    this.#host = host
    this.#locale = locale
    const { session, options } = host
    this.#panel = new Panel(session, options, locale, {
      close: () => host.close(),
      seen: () => {
        if (document.visibilityState === 'visible') session.markRead()
      },
    })
    this.#badge = h('span', { class: 'badge', 'aria-hidden': 'true' })
    this.#launcher = h('button', {
      class: 'launcher', type: 'button', 'aria-haspopup': 'dialog', 'aria-expanded': 'false', 'aria-controls': 'panel',
      click: () => (host.state.isOpen ? host.close() : host.open()),
    }, icon('chat'), icon('down'), this.#badge)
    this.#announcement = h('p', { class: 'hidden', role: 'status' })
    this.element = h('aside', {
      class: 'root', lang: locale.code, dir: locale.dir, 'aria-label': options.title ?? locale.title,
      'data-theme': options.theme, 'data-position': options.position,
      keydown: (event: KeyboardEvent) => this.#pressed(event),
    }, this.#panel.element, this.#launcher, this.#announcement)
    const { accent, onAccent } = accentOf(options.color)
    this.element.style.setProperty('--accent', accent)
    this.element.style.setProperty('--on-accent', onAccent)
    const { signal } = this.#listening
    document.addEventListener('visibilitychange', () => this.update(), { signal })
    this.#phone.addEventListener('change', () => this.#fit(), { signal })
    globalThis.visualViewport?.addEventListener('resize', () => this.#fit(), { signal })
    globalThis.visualViewport?.addEventListener('scroll', () => this.#fit(), { signal })
    this.update()
  }

  get draft(): string {
    return this.#panel.composer.text
  }

  set draft(text: string) {
    this.#panel.composer.text = text
  }

  /** Soon; all changes until then at once. */
  invalidate(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0
      this.update()
    })
  }

  update(): void {
    const { session, state, options } = this.#host
    this.element.hidden = !state.isShown
    this.element.classList.toggle('open', state.isOpen)
    this.#launcher.hidden = !options.launcher
    this.#launcher.setAttribute('aria-expanded', String(state.isOpen))
    const { unread } = session.thread
    // No text of the page's: the launcher's name has the whole number.
    this.#badge.dataset.count = unread > 9 ? '9+' : String(unread)
    this.#badge.hidden = unread === 0
    const label = state.isOpen ? this.#locale.close : this.#locale.open
    const told = unread > 0 && !state.isOpen ? this.#locale.unread(unread) : ''
    this.#launcher.setAttribute('aria-label', told ? `${label}, ${told}` : label)
    setText(this.#announcement, told)
    if (state.isOpen && !this.#isOpen) this.#panel.open()
    else if (!state.isOpen && this.#isOpen) this.#panel.close()
    else this.#panel.update()
    this.#isOpen = state.isOpen
    this.#fit()
  }

  /** The keyboard of a phone comes up only if the visitor asks for it. */
  focus(): void {
    if (matchMedia('(pointer: coarse)').matches) this.#panel.element.focus({ preventScroll: true })
    else this.#panel.composer.focus()
  }

  focusLauncher(): void {
    if (this.#root?.activeElement) this.#launcher.focus({ preventScroll: true })
  }

  destroy(): void {
    this.#listening.abort()
    cancelAnimationFrame(this.#frame)
    this.#panel.destroy()
    this.element.remove()
  }

  get #root(): ShadowRoot | null {
    const root = this.element.getRootNode()
    return root instanceof ShadowRoot ? root : null
  }

  #pressed(event: KeyboardEvent): void {
    if (!this.#host.state.isOpen) return
    if (event.key === 'Escape' && !event.isComposing) {
      event.stopPropagation()
      this.#host.close()
    } else if (event.key === 'Tab' && this.#phone.matches) {
      this.#keepFocus(event)
    }
  }

  /** The panel covers a phone's page: what lies beneath must not get the focus. */
  #keepFocus(event: KeyboardEvent): void {
    const all = [...this.#panel.element.querySelectorAll<HTMLElement>('button, textarea, a, [tabindex="0"]')]
      .filter((element) => element.checkVisibility?.() !== false && !element.matches(':disabled'))
    const active = this.#root?.activeElement
    const [leaving, entering] = event.shiftKey ? [all[0], all.at(-1)] : [all.at(-1), all[0]]
    if (active !== leaving && active !== this.#panel.element) return
    event.preventDefault()
    entering?.focus()
  }

  /** On a phone the panel fills what the keyboard leaves. */
  #fit(): void {
    const viewport = globalThis.visualViewport
    const isFull = this.#phone.matches && this.#host.state.isOpen
    this.element.classList.toggle('phone', this.#phone.matches)
    this.#panel.element.setAttribute('aria-modal', String(isFull))
    if (!isFull || !viewport) return
    this.element.style.setProperty('--height', `${viewport.height}px`)
    this.element.style.setProperty('--top', `${viewport.offsetTop}px`)
  }
}
