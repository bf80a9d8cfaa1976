// The dashboard's API of the relay, as the application's own server uses it: with a token of service_role.
import { createHash, createHmac } from 'node:crypto'

/** A token of the service for one organization, signed with the secret of the relay (HS256). */
export function token(secret, organization) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { role: 'service_role', org_id: organization, exp: Math.floor(Date.now() / 1000) + 3600 }
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
}

/** The id of the message with this client key: the UUIDv5 of the key in the namespace of the conversation's id. */
export function messageId(clientKey, conversation) {
  const namespace = Buffer.from(conversation.replaceAll('-', ''), 'hex')
  const bytes = createHash('sha1').update(namespace).update(clientKey).digest().subarray(0, 16)
  bytes[6] = (bytes[6] & 0x0f) | 0x50
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

export class ApiError extends Error {
  constructor(status, error) {
    super(`${status} ${error?.code}: ${error?.message}`)
    this.status = status
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 429 || this.status >= 500
  }
}

/** Functions that ask the API until it answers; `signal` ends the attempts. */
export function createApi({ relay, getToken, signal }) {
  async function once(method, path, body) {
    const response = await fetch(new URL(path, relay), {
      method,
      headers: { authorization: `Bearer ${getToken()}`, 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
      signal: AbortSignal.any([signal, AbortSignal.timeout(30_000)]),
    })
    const answer = await response.json()
    if (!response.ok) throw new ApiError(response.status, answer.error)
    return answer
  }

  // Each request can be repeated: what it asks for is the same afterwards, however often it was asked.
  async function ask(method, path, body) {
    for (let wait = 250; ; wait = Math.min(2 * wait, 10_000)) {
      try {
        return await once(method, path, body)
      } catch (error) {
        if (signal.aborted || (error instanceof ApiError && !error.isTemporary)) throw error
        console.error(`${method} ${path}: ${error.message}; again in ${wait} ms`)
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  return {
    me: () => ask('GET', '/api/dashboard/me'),

    /** The open conversations that nobody is assigned to, latest first, a page at a time. */
    async *unassigned() {
      for (let cursor = ''; cursor !== null;) {
        const page = await ask('GET', `/api/dashboard/conversations?status=open&assignee=none&limit=200${cursor && `&cursor=${cursor}`}`)
        yield* page.conversations
        cursor = page.cursor
      }
    },

    conversation: async (id) => (await ask('GET', `/api/dashboard/conversations/${id}`)).conversation,

    latestMessages: async (id) => (await ask('GET', `/api/dashboard/conversations/${id}/messages?limit=50`)).messages,

    /** Writes as the AI, once a key. */
    say: (conversation, clientKey, content) =>
      ask('POST', `/api/dashboard/conversations/${conversation}/messages`, {
        content, clientKey, senderType: 'ai', senderName: 'Assistant',
      }),

    change: (conversation, changes) => ask('PATCH', `/api/dashboard/conversations/${conversation}`, changes),
  }
}
