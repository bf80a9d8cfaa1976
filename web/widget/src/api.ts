// The relay's routes for widgets (docs/api.md).
import type { ConversationRow, MessageRow, ReceiptRow } from './rows.js'

/** The leave to act in one conversation. */
export interface Grant {
  conversationId: string
  token: string
  expiresAt: string
  apiKey: string
  channels: { conversation: string; widget: string }
  resumed: boolean
  verified: boolean
}

export interface AuthRequest {
  organizationId: string
  token?: string
  identity?: string
  name?: string
  email?: string
  context?: Record<string, unknown>
  create?: false
}

export interface Page {
  conversation: ConversationRow
  messages: MessageRow[]
  receipts: ReceiptRow[]
  cursor: string | null
}

/** What went wrong, by the code that the relay gave it; `network` and `timeout` if there was no answer. */
export class ApiError extends Error {
  override readonly name = 'ApiError'

  constructor(
    readonly code: string,
    message: string,
    readonly status = 0,
    readonly hint: string | null = null,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message)
  }
}

/** A phone in a tunnel answers nothing and refuses nothing. */
const TIMEOUT_MS = 20_000

export class Api {
  readonly #base: string
  readonly #timeoutMs: number

  /** `base` ends without a slash. */
  constructor(base: string, timeoutMs = TIMEOUT_MS) {
    this.#base = base
    this.#timeoutMs = timeoutMs
  }

  /** null: there is no conversation, and none is to be created. */
  auth(request: AuthRequest): Promise<Grant | null> {
    return this.#call('POST', '/api/widget/auth', null, request)
  }

  identify(token: string, identity: string): Promise<Grant> {
    return this.#call('POST', '/api/widget/identify', token, { identity })
  }

  messages(token: string, limit: number, cursor: string | null): Promise<Page> {
    const query = new URLSearchParams({ limit: String(limit), ...(cursor !== null && { cursor }) })
    return this.#call('GET', `/api/widget/messages?${query}`, token)
  }

  async send(token: string, content: string, clientKey: string): Promise<MessageRow> {
    const answer = await this.#call<{ message: MessageRow }>('POST', '/api/widget/messages', token, { content, clientKey })
    return answer.message
  }

  async read(token: string, lastReadMessageId: string): Promise<ReceiptRow> {
    const answer = await this.#call<{ receipt: ReceiptRow }>('POST', '/api/widget/read', token, { lastReadMessageId })
    return answer.receipt
  }

  async #call<Answer>(method: string, path: string, token: string | null, body?: object): Promise<Answer> {
    const controller = new AbortController()
    const timer = setTimeout(() => controller.abort(), this.#timeoutMs)
    try {
      const response = await fetch(this.#base + path, {
        method,
        headers: {
          ...(body && { 'content-type': 'application/json' }),
          ...(token !== null && { authorization: `Bearer ${token}` }),
        },
        ...(body && { body: JSON.stringify(body) }),
        cache: 'no-store',
        credentials: 'omit',
        signal: controller.signal,
      })
      const answer = await response.json().catch(() => null)
      if (response.status === 204 || (response.ok && answer !== null)) return answer as Answer
      throw refusal(response, answer)
    } catch (error) {
      if (error instanceof ApiError) throw error
      if (controller.signal.aborted) throw new ApiError('timeout', `no answer within ${this.#timeoutMs / 1000} s`)
      const hint = "if it lasts: the page's content policy must allow the relay by connect-src"
      throw new ApiError('network', `the relay cannot be reached: ${(error as Error).message}`, 0, hint)
    } finally {
      clearTimeout(timer)
    }
  }
}

function refusal(response: Response, answer: unknown): ApiError {
  const { code, message, hint } = (answer as { error?: Record<string, unknown> } | null)?.error ?? {}
  const seconds = Number(response.headers.get('retry-after') ?? NaN)
  return new ApiError(
    typeof code === 'string' ? code : 'unexpected_answer',
    typeof message === 'string' ? message : `the relay answered ${response.status}`,
    // An answer of 200 that is no JSON is a proxy's page: another try may get through.
    response.ok ? 502 : response.status,
    typeof hint === 'string' ? hint : null,
    Number.isFinite(seconds) ? seconds * 1000 : null,
  )
}
