// Where an agent's tokens come from: an address of the application that answers `{"token": "…"}`, or what the agent
// pasted, which this tab keeps until it is closed.

/** Nobody is logged in, or no longer. */
export class SignedOut extends Error {}

export interface TokenStorage {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

/** A token that ends sooner is replaced before it is used. */
const REFRESH_BEFORE_EXPIRY_MS = 60_000

const KEY = 'campfire:token'

/** When a JWT expires, in milliseconds since 1970; never, if it does not say. */
export function expiryOf(token: string): number {
  try {
    const body = token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/')
    const { exp } = JSON.parse(atob(body)) as { exp?: unknown }
    return typeof exp === 'number' ? exp * 1000 : Infinity
  } catch {
    return Infinity
  }
}

export class Session {
  readonly #ask: (() => Promise<unknown>) | null
  readonly #storage: TokenStorage
  #token: string | null = null
  #pending: Promise<string> | null = null

  /** `ask` gets the endpoint's answer; without it, tokens are pasted. */
  constructor(ask: (() => Promise<unknown>) | null, storage: TokenStorage) {
    this.#ask = ask
    this.#storage = storage
    if (!ask) this.#token = storage.getItem(KEY)
  }

  get isPasted(): boolean {
    return this.#ask === null
  }

  /** A token that lives for a while. */
  async token(now = Date.now()): Promise<string> {
    if (this.#token !== null && expiryOf(this.#token) - now > REFRESH_BEFORE_EXPIRY_MS) return this.#token
    return this.renew(now)
  }

  /** Another token than the known one, if there can be one. */
  renew(now = Date.now()): Promise<string> {
    this.#pending ??= this.#renew(now).finally(() => {
      this.#pending = null
    })
    return this.#pending
  }

  paste(token: string): void {
    this.#token = token.trim()
    this.#storage.setItem(KEY, this.#token)
  }

  signOut(): void {
    this.#token = null
    this.#storage.removeItem(KEY)
  }

  async #renew(now: number): Promise<string> {
    if (!this.#ask) {
      // What was pasted is used to its end.
      if (this.#token !== null && expiryOf(this.#token) > now) return this.#token
      throw new SignedOut('paste a token')
    }
    const answer = await this.#ask()
    const { token } = (answer ?? {}) as { token?: unknown }
    if (typeof token !== 'string') throw new Error('the session’s endpoint answers without a token')
    this.#token = token
    return token
  }
}

/** Asks the endpoint, as the browser's own user there. */
export async function askEndpoint(url: string): Promise<unknown> {
  const answer = await fetch(url, {
    credentials: 'include', cache: 'no-store', headers: { accept: 'application/json' },
    signal: AbortSignal.timeout(15_000),
  })
  if (answer.status === 401 || answer.status === 403) throw new SignedOut('log in to the application first')
  if (!answer.ok) throw new Error(`the session’s endpoint answers ${answer.status}`)
  return answer.json()
}

/**
 * The endpoint's address: the one that the relay wrote into the page, else the page's parameter `session`. A link may
 * not name another host: whoever sent it would choose as whom the agent writes.
 */
export function endpointOf(written: string, page: URL): string | null {
  const named = written || page.searchParams.get('session')
  if (!named) return null
  const url = new URL(named, page)
  return written || url.origin === page.origin ? url.href : null
}
