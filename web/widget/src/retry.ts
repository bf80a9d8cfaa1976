// When to try a request again.
import { ApiError } from './api.js'

export interface Backoff {
  minMs: number
  maxMs: number
}

/** Whether the same request may succeed later without anybody changing anything. */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false
  const { status } = error
  return status === 0 || status === 408 || status === 429 || status >= 500
}

/** How long to wait before try `attempt` (from 0): twice as long each time, somewhere between one step and the next. */
export function delay(error: unknown, attempt: number, { minMs, maxMs }: Backoff, random = Math.random): number {
  const wait = Math.min(maxMs, minMs * 2 ** Math.min(attempt, 16) * (1 + random()))
  const asked = error instanceof ApiError ? error.retryAfterMs ?? 0 : 0
  return Math.max(wait, asked)
}
