// The widget of a page: one conversation, at most one view of it, and the page's verbs.
import { ApiError } from './api.js'
import { Emitter, type Handler } from './emitter.js'
import { chooseLanguage, english, loadLocale, type Locale } from './locale.js'
import { Memory } from './memory.js'
import type { Options } from './options.js'
import { type Identity, Session } from './session.js'
import { Sound } from './sound.js'
import { TitleBadge } from './title.js'
import { View, type ViewHost, type ViewState } from './view/view.js'

/** One verb of the page's with what it was given. */
export type Call = readonly [verb: string, ...parameters: unknown[]]

export class Widget implements ViewHost {
  readonly options: Options
  readonly state: ViewState = { isOpen: false, isShown: true }
  readonly session: Session
  readonly #emitter = new Emitter()
  readonly #title = new TitleBadge()
  readonly #destroyed: () => void
  #sound: Sound | null = null
  #locale: Locale = english
  #language = 'en'
  /** Of setLocale(). */
  #wish: string | null = null
  #root: ShadowRoot | null = null
  #view: View | null = null
  #listening: AbortController | null = null
  #isReady = false

  /** `destroyed` takes the element off the page. */
  constructor(options: Options, destroyed: () => void) {
    this.options = options
    this.#destroyed = destroyed
    this.session = new Session(options, new Memory(options.relay, options.organization), {
      changed: () => this.#view?.invalidate(),
      message: (row, isReplayed) => {
        this.#emitter.emit('message', { ...row })
        if (row.sender_type === 'agent' || row.sender_type === 'ai') this.#ring(isReplayed)
      },
      unread: (count) => {
        this.#title.set(count)
        this.#emitter.emit('unread', { count })
      },
      connection: (state) => this.#emitter.emit('connection', { state }),
      error: (error) => this.#report(error),
    })
  }

  /** Shows the widget in this root, in the language that the page or the browser asks for. */
  async mount(root: ShadowRoot): Promise<void> {
    this.#root = root
    this.#listen()
    this.session.start()
    if (!this.#isReady) await this.#speak(this.#wish ?? this.options.locale ?? document.documentElement.lang)
    if (this.#root !== root) return
    this.#render()
    if (this.#isReady) return
    this.#isReady = true
    // It was opened before it could be seen.
    if (this.state.isOpen) this.#view?.focus()
    this.#emitter.emit('ready', { locale: this.#language })
  }

  /** Takes the view off, and lets go of the connection and of all listeners. */
  unmount(): void {
    this.#root = null
    this.#view?.destroy()
    this.#view = null
    this.#listening?.abort()
    this.#listening = null
    this.#sound?.close()
    this.#sound = null
    this.#title.set(0)
    this.session.stop()
  }

  call([verb, ...parameters]: Call): void {
    const [first, second] = parameters
    switch (verb) {
      case 'open': return this.open()
      case 'close': return this.close()
      case 'toggle': return this.state.isOpen ? this.close() : this.open()
      case 'show': return this.#show(true)
      case 'hide': return this.#show(false)
      case 'identify':
        if (typeof first !== 'string' && typeof first !== 'function') {
          return this.#refuse('identify() takes a signed token, or a function that brings one')
        }
        return void this.session.identify(first as Identity)
      case 'reset':
        this.close()
        return this.session.reset()
      case 'setLocale':
        if (typeof first !== 'string') return this.#refuse("setLocale() takes a language, such as 'de'")
        this.#wish = first
        void this.#speak(first).then(() => this.#render())
        return
      case 'setContext':
        if (typeof first !== 'object' || first === null || Array.isArray(first)) {
          return this.#refuse('setContext() takes an object')
        }
        return this.session.setContext(first as Record<string, unknown>)
      case 'on': return this.#on(String(first), second)
      case 'off': return this.#emitter.off(String(first), second as Handler | undefined)
      case 'destroy': return this.destroy()
      default: return this.#refuse(`there is no verb '${verb}'`)
    }
  }

  open(): void {
    if (this.state.isOpen) return
    this.state.isOpen = true
    this.#view?.update()
    this.#view?.focus()
    this.#emitter.emit('open', {})
  }

  close(): void {
    if (!this.state.isOpen) return
    this.state.isOpen = false
    this.#view?.focusLauncher()
    this.#view?.update()
    this.#emitter.emit('close', {})
  }

  destroy(): void {
    this.unmount()
    this.#emitter.clear()
    this.#destroyed()
  }

  #show(isShown: boolean): void {
    this.state.isShown = isShown
    if (!isShown) this.close()
    this.#view?.update()
  }

  #on(event: string, handler: unknown): void {
    if (typeof handler !== 'function') return this.#refuse('on() takes an event and a function')
    this.#emitter.on(event, handler as Handler)
    // Who comes late hears of what lasts.
    if (event === 'ready' && this.#isReady) queueMicrotask(() => (handler as Handler)({ locale: this.#language }))
  }

  async #speak(wish: string): Promise<void> {
    const language = chooseLanguage([wish, ...navigator.languages])
    this.#language = language
    try {
      const locale = await loadLocale(language)
      if (language === this.#language) this.#locale = locale
    } catch (error) {
      this.#report(new ApiError('locale_unavailable', `the words of '${language}' cannot be fetched: ${error}`))
    }
  }

  #render(): void {
    if (!this.#root) return
    const draft = this.#view?.draft ?? ''
    this.#view?.destroy()
    this.#view = new View(this, this.#locale)
    this.#view.draft = draft
    this.#root.append(this.#view.element)
  }

  #listen(): void {
    this.#listening?.abort()
    this.#listening = new AbortController()
    const { signal } = this.#listening
    addEventListener('online', () => this.session.wake(), { signal })
    addEventListener('offline', () => this.session.offline(), { signal })
    // After sleep, or out of the back-forward cache, the socket may be dead without saying so.
    addEventListener('pageshow', ({ persisted }) => persisted && this.session.wake(), { signal })
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.session.wake()
    }, { signal })
    addEventListener('storage', (event) => {
      if (this.session.isRemembered(event)) this.session.remembered()
    }, { signal })
    if (this.options.sound) this.#sound = new Sound()
  }

  #ring(isReplayed: boolean): void {
    if (isReplayed || !this.state.isShown) return
    void this.#sound?.message(this.state.isOpen && document.visibilityState === 'visible')
  }

  #refuse(message: string): void {
    this.#report(new ApiError('invalid_call', message))
  }

  #report({ code, message, hint, status }: ApiError): void {
    console.warn(`campfire: ${code}: ${message}${hint ? ` (${hint})` : ''}`)
    this.#emitter.emit('error', { code, message, hint, status })
  }
}
