// Messages on their way to the API. Each has a key, from which its id follows, so that it can be sent again without
// becoming two, and its event is known when it comes, even before the answer.
import { v4, v5 } from 'uuid'
import { ApiError } from './api.js'
import type { Message } from './rows.js'

export interface Pending {
  /** The id that the message will have. */
  id: string
  conversation: string
  clientKey: string
  content: string
  created_at: string
  state: 'sending' | 'failed'
  /** Why it failed. */
  error: string
}

/** Waits between tries, before the agent is asked. */
const DELAYS_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000]

export interface OutboxPorts {
  post(conversation: string, content: string, clientKey: string): Promise<Message>
  /** It is in the database. */
  onSent(message: Message): void
  onChange(): void
  wait?(ms: number): Promise<void>
}

export class Outbox {
  readonly #ports: OutboxPorts
  readonly #pending = new Map<string, Pending>()
  /** A conversation's messages are sent one after another, or they would change places. */
  readonly #sending = new Set<string>()

  constructor(ports: OutboxPorts) {
    this.#ports = ports
  }

  get isEmpty(): boolean {
    return this.#pending.size === 0
  }

  of(conversation: string): Pending[] {
    return [...this.#pending.values()].filter((pending) => pending.conversation === conversation)
  }

  send(conversation: string, content: string): void {
    const clientKey = v4()
    const pending: Pending = {
      id: messageId(conversation, clientKey), conversation, clientKey, content,
      created_at: new Date().toISOString(), state: 'sending', error: '',
    }
    this.#pending.set(pending.id, pending)
    this.#ports.onChange()
    void this.#drain(conversation)
  }

  retry(id: string): void {
    const pending = this.#pending.get(id)
    if (!pending || pending.state === 'sending') return
    pending.state = 'sending'
    this.#ports.onChange()
    void this.#drain(pending.conversation)
  }

  /** The connection is back. */
  retryAll(): void {
    for (const { id } of this.#pending.values()) this.retry(id)
  }

  discard(id: string): void {
    if (this.#pending.get(id)?.state !== 'failed') return
    this.#pending.delete(id)
    this.#ports.onChange()
  }

  /** Its event came. */
  confirm(id: string): void {
    if (this.#pending.delete(id)) this.#ports.onChange()
  }

  async #drain(conversation: string): Promise<void> {
    if (this.#sending.has(conversation)) return
    this.#sending.add(conversation)
    const next = () => this.of(conversation).find(({ state }) => state === 'sending')
    for (let pending = next(); pending; pending = next()) await this.#post(pending)
    this.#sending.delete(conversation)
  }

  async #post(pending: Pending): Promise<void> {
    const { post, onSent, onChange, wait = pause } = this.#ports
    // An event may end it at any time.
    for (let attempt = 0; this.#pending.has(pending.id); attempt += 1) {
      try {
        const message = await post(pending.conversation, pending.content, pending.clientKey)
        this.#pending.delete(pending.id)
        onSent(message)
        onChange()
        return
      } catch (error) {
        const delay = DELAYS_MS[attempt]
        const isPassing = error instanceof ApiError && error.isPassing
        if (!isPassing || delay === undefined) {
          pending.state = 'failed'
          pending.error = (error as Error).message
          onChange()
          return
        }
        await wait(Math.max(delay, error.retryAfterMs))
      }
    }
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** As `campfire.message_id()` has it. */
export const messageId = (conversation: string, clientKey: string): string => v5(clientKey.toLowerCase(), conversation)
