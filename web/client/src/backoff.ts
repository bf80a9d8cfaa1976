/** How long to wait before trying again, at the least and at the most. */
export interface Backoff {
  minMs: number
  maxMs: number
}

export const DEFAULT_BACKOFF: Backoff = { minMs: 1_000, maxMs: 30_000 }

/**
 * The wait before try number `attempt` (from 0): it doubles, and lies anywhere between one
 * step and the next, since a drained relay sends everybody away at once.
 */
export function delay(attempt: number, { minMs, maxMs }: Backoff, random = Math.random): number {
  // Beyond 2^20 steps it is the most anyway.
  const step = minMs * 2 ** Math.min(attempt, 20)
  return Math.min(maxMs, step * (1 + random()))
}
