// What the browser keeps: nothing before the visitor's first message, then the token of the conversation for all tabs,
// and in each tab what it has not yet sent. A storage that is forbidden or full is as good as none.
import type { Draft } from './outbox.js'

export interface Kept {
  conversationId: string
  token: string
}

type Store = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''

function storage(name: 'localStorage' | 'sessionStorage'): Store | null {
  try {
    return globalThis[name] ?? null
  } catch {
    return null
  }
}

export class Memory {
  readonly #key: string
  readonly #shared: Store | null
  readonly #own: Store | null

  /** Of one organization at one relay: a site may have more than one. */
  constructor(
    relay: string,
    organization: string,
    shared = storage('localStorage'),
    own = storage('sessionStorage'),
  ) {
    this.#key = `campfire:${new URL(relay).host}:${organization}`
    this.#shared = shared
    this.#own = own
  }

  load(): Kept | null {
    const kept = this.#read(this.#shared, this.#key) as Partial<Kept> | null
    return isText(kept?.conversationId) && isText(kept.token)
      ? { conversationId: kept.conversationId, token: kept.token }
      : null
  }

  keep(kept: Kept): void {
    this.#write(this.#shared, this.#key, kept)
  }

  loadDrafts(): Draft[] {
    const drafts = this.#read(this.#own, `${this.#key}:unsent`)
    if (!Array.isArray(drafts)) return []
    return drafts
      .filter((draft) => isText(draft?.key) && isText(draft.content) && Number.isFinite(draft.at))
      .map(({ key, content, at }) => ({ key, content, at }))
  }

  keepDrafts(drafts: readonly Draft[]): void {
    const kept = drafts.map(({ key, content, at }) => ({ key, content, at }))
    this.#write(this.#own, `${this.#key}:unsent`, kept.length > 0 ? kept : null)
  }

  forget(): void {
    this.#write(this.#shared, this.#key, null)
    this.#write(this.#own, `${this.#key}:unsent`, null)
  }

  /** Whether an event of `storage` is about the conversation: another tab has begun or left one. */
  isAbout({ key }: { key: string | null }): boolean {
    return key === null || key === this.#key
  }

  #read(store: Store | null, key: string): unknown {
    try {
      return JSON.parse(store?.getItem(key) ?? 'null')
    } catch {
      return null
    }
  }

  #write(store: Store | null, key: string, value: unknown): void {
    try {
      if (value === null) store?.removeItem(key)
      else store?.setItem(key, JSON.stringify(value))
    } catch {
      // Kept in memory, as long as the page lives.
    }
  }
}
