// Who types. The relay ends an indicator that is not renewed (CAMPFIRE_TYPING_SECONDS, 5); so does the widget, for the
// case that the connection is gone by then.

/** Within this, an indicator is renewed once. */
const RENEW_MS = 3_000
/** Nothing typed for so long is a pause. */
const PAUSE_MS = 4_000
const END_MS = 6_000

/** Tells the team that the visitor types. */
export class TypingOut {
  readonly #send: (event: 'typing:start' | 'typing:stop') => void
  #sentAt = -Infinity
  #pause: ReturnType<typeof setTimeout> | undefined

  constructor(send: (event: 'typing:start' | 'typing:stop') => void) {
    this.#send = send
  }

  set(isTyping: boolean): void {
    clearTimeout(this.#pause)
    if (isTyping) {
      if (performance.now() - this.#sentAt >= RENEW_MS) {
        this.#sentAt = performance.now()
        this.#send('typing:start')
      }
      this.#pause = setTimeout(() => this.set(false), PAUSE_MS)
    } else if (this.#sentAt !== -Infinity) {
      this.#sentAt = -Infinity
      this.#send('typing:stop')
    }
  }

  close(): void {
    clearTimeout(this.#pause)
  }
}

/** Shows that the team types. */
export class TypingIn {
  readonly #changed: () => void
  #isTyping = false
  #end: ReturnType<typeof setTimeout> | undefined

  constructor(changed: () => void) {
    this.#changed = changed
  }

  get isTyping(): boolean {
    return this.#isTyping
  }

  set(isTyping: boolean): void {
    clearTimeout(this.#end)
    if (isTyping) this.#end = setTimeout(() => this.set(false), END_MS)
    if (isTyping === this.#isTyping) return
    this.#isTyping = isTyping
    this.#changed()
  }

  clear(): void {
    this.set(false)
  }
}
