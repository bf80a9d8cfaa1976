// What the visitor has sent and the relay has not yet confirmed. One request at a time, so that messages keep their
// order; what may succeed later is tried again by itself, what cannot is shown as failed. A repeated request carries
// the same key, so it is no second message.
import { delay, isTransient, type Backoff } from './retry.js'
import type { MessageRow } from './rows.js'
import { newClientKey } from './ids.js'

export interface Draft {
  readonly key: string
  readonly content: string
  /** Milliseconds since 1970. */
  readonly at: number
}

export interface Pending extends Draft {
  /** `waiting`: it failed and will be tried again; `failed`: only the visitor can try it again. */
  state: 'sending' | 'waiting' | 'failed'
  error: Error | null
}

export interface OutboxHost {
  /** Resolves with the stored row. */
  post(draft: Draft): Promise<MessageRow>
  /** The row of a draft that is no longer pending. */
  sent(row: MessageRow, draft: Draft): void
  /** Something pending is new, gone or in another state. */
  changed(): void
  /** A draft failed: for good, or not yet. */
  failed(error: Error, pending: Pending): void
}

export class Outbox {
  readonly #host: OutboxHost
  readonly #backoff: Backoff
  #pending: Pending[] = []
  #isPosting = false
  #attempt = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #isClosed = false

  constructor(host: OutboxHost, backoff: Backoff, kept: readonly Draft[] = []) {
    this.#host = host
    this.#backoff = backoff
    this.#pending = kept.map((draft) => ({ ...draft, state: 'sending', error: null }))
  }

  get pending(): readonly Pending[] {
    return this.#pending
  }

  add(content: string, now = Date.now()): Pending {
    const pending: Pending = { key: newClientKey(), content, at: now, state: 'sending', error: null }
    this.#pending.push(pending)
    this.#host.changed()
    this.flush()
    return pending
  }

  /** The visitor tries one again. */
  retry(key: string): void {
    const pending = this.#find(key)
    if (pending?.state !== 'failed') return
    pending.state = 'sending'
    pending.error = null
    this.#host.changed()
    this.wake()
  }

  /** The visitor gives one up, or its event has come. */
  remove(key: string): void {
    const before = this.#pending.length
    this.#pending = this.#pending.filter((pending) => pending.key !== key)
    if (this.#pending.length < before) this.#host.changed()
  }

  /** The connection may be back: no need to wait any longer. */
  wake(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#attempt = 0
    this.flush()
  }

  flush(): void {
    if (this.#isPosting || this.#isClosed || this.#timer !== undefined) return
    const next = this.#pending.find(({ state }) => state !== 'failed')
    if (next) void this.#post(next)
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#pending = []
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  reopen(): void {
    this.#isClosed = false
    this.wake()
  }

  #find(key: string): Pending | undefined {
    return this.#pending.find((pending) => pending.key === key)
  }

  async #post(pending: Pending): Promise<void> {
    this.#isPosting = true
    try {
      const row = await this.#host.post(pending)
      this.#attempt = 0
      if (this.#find(pending.key)) {
        this.#host.sent(row, pending)
        this.remove(pending.key)
      }
    } catch (error) {
      // Its event may have come in between: then it is stored, whatever became of the answer.
      if (this.#find(pending.key)) this.#failed(pending, error as Error)
    } finally {
      this.#isPosting = false
      this.flush()
    }
  }

  #failed(pending: Pending, error: Error): void {
    pending.error = error
    if (isTransient(error)) {
      pending.state = 'waiting'
      if (!this.#isClosed) {
        this.#timer = setTimeout(() => {
          this.#timer = undefined
          this.flush()
        }, delay(error, this.#attempt, this.#backoff))
      }
      this.#attempt += 1
    } else {
      pending.state = 'failed'
    }
    this.#host.failed(error, pending)
    this.#host.changed()
  }
}
