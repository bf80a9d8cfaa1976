// The relay's HTTP API, as far as the dashboard uses it.
import type { Filter } from './conversation_list.js'
import type { ListedConversation, Me, Message, Receipt, Unread } from './rows.js'
import { type Session } from './session.js'

/** What the API refused, or that it could not be reached (status 0). */
export class ApiError extends Error {
  readonly status: number
  readonly code: string
  readonly hint: string
  /** How long the API wants to be left alone. */
  readonly retryAfterMs: number

  constructor(status: number, code: string, message: string, hint = '', retryAfterMs = 0) {
    super(message)
    this.status = status
    this.code = code
    this.hint = hint
    this.retryAfterMs = retryAfterMs
  }

  /** The same request may succeed later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500
  }
}

export interface ConversationPage {
  conversations: ListedConversation[]
  cursor: string | null
}

export interface MessagePage {
  messages: Message[]
  receipts: Receipt[]
  cursor: string | null
}

export type ConversationChange = Partial<
  Pick<ListedConversation, 'status' | 'priority' | 'assignee_id' | 'customer_name' | 'customer_email'>
>

const TIMEOUT_MS = 15_000

export class Api {
  readonly #base: URL
  readonly #session: Session

  /** `base` ends with a slash; `api/…` is below it. */
  constructor(base: URL, session: Session) {
    this.#base = base
    this.#session = session
  }

  me(): Promise<Me> {
    return this.#request('GET', 'me')
  }

  conversations(filter: Filter, cursor: string | null, limit = 100): Promise<ConversationPage> {
    const { status, priority, assignee, search } = filter
    return this.#request('GET', `conversations?${parameters({ status, priority, assignee, search, cursor, limit })}`)
  }

  async conversation(id: string): Promise<ListedConversation> {
    const { conversation } = await this.#request<{ conversation: ListedConversation }>('GET', `conversations/${id}`)
    return conversation
  }

  async change(id: string, change: ConversationChange): Promise<ListedConversation> {
    const path = `conversations/${id}`
    const { conversation } = await this.#request<{ conversation: ListedConversation }>('PATCH', path, change)
    return conversation
  }

  messages(conversation: string, cursor: string | null, limit: number): Promise<MessagePage> {
    return this.#request('GET', `conversations/${conversation}/messages?${parameters({ cursor, limit })}`)
  }

  async send(conversation: string, content: string, clientKey: string): Promise<Message> {
    const path = `conversations/${conversation}/messages`
    const { message } = await this.#request<{ message: Message }>('POST', path, { content, clientKey })
    return message
  }

  async read(conversation: string, lastReadMessageId: string): Promise<Receipt> {
    const path = `conversations/${conversation}/read`
    const { receipt } = await this.#request<{ receipt: Receipt }>('POST', path, { lastReadMessageId })
    return receipt
  }

  /** Of at most 200 conversations. */
  async unread(conversations: string[]): Promise<Unread[]> {
    const path = `unread?${parameters({ conversations: conversations.join(',') })}`
    return (await this.#request<{ conversations: Unread[] }>('GET', path)).conversations
  }

  async #request<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const token = await this.#session.token()
    try {
      return await this.#ask<Answer>(method, path, body, token)
    } catch (error) {
      const isRefused = error instanceof ApiError && error.status === 401
      if (!isRefused || this.#session.isPasted) throw error
      // The clocks may differ, or the keys were changed.
      return this.#ask<Answer>(method, path, body, await this.#session.renew())
    }
  }

  async #ask<Answer>(method: string, path: string, body: unknown, token: string): Promise<Answer> {
    let answer: Response
    try {
      answer = await fetch(new URL(`api/dashboard/${path}`, this.#base), {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        cache: 'no-store',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
    } catch {
      throw new ApiError(0, 'unreachable', 'The relay cannot be reached')
    }
    const content = await answer.json().catch(() => null) as { error?: Record<string, unknown> } | null
    if (answer.ok && content !== null) return content as Answer
    const { code, message, hint } = content?.error ?? {}
    throw new ApiError(
      answer.status,
      typeof code === 'string' ? code : 'unknown',
      typeof message === 'string' ? message : `The relay answered ${answer.status}`,
      typeof hint === 'string' ? hint : '',
      Number(answer.headers.get('retry-after') ?? 0) * 1000,
    )
  }
}

function parameters(values: Record<string, string | number | null>): URLSearchParams {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== '')
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]))
}
