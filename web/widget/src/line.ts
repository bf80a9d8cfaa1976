// The stock client of a page. There is one for a relay and key, however often the widget comes and goes: each that is
// made leaves three listeners on the window for good (@supabase/phoenix 0.4.5), and with them all that it holds.
import { RealtimeClient } from '@supabase/realtime-js'

/** The socket's own tries, up to half as much more: a relay that restarts sends everybody away at once. */
const RECONNECT_MS = [500, 1_000, 2_000, 5_000]
const reconnectAfterMs = (tries: number) => (RECONNECT_MS[tries - 1] ?? 10_000) * (1 + Math.random() / 2)

/** For the answer to a leave, which a dead network never brings. */
const LEAVE_MS = 2_000

const lines = new Map<string, Line>()

export class Line {
  readonly client: RealtimeClient
  /** What hears of heartbeats now. */
  beat: (status: string) => void = () => {}
  #isFree: Promise<unknown> = Promise.resolve()

  static of(relay: string, apiKey: string): Line {
    const name = `${relay} ${apiKey}`
    const line = lines.get(name) ?? new Line(relay, apiKey)
    lines.set(name, line)
    return line
  }

  private constructor(relay: string, apiKey: string) {
    this.client = new RealtimeClient(`${relay.replace(/^http/, 'ws')}/realtime/v1`, {
      params: { apikey: apiKey },
      reconnectAfterMs,
      heartbeatCallback: (status) => this.beat(status),
    })
  }

  /** Resolves once nobody uses it any more. */
  async free(): Promise<void> {
    await this.#isFree
  }

  /** After `left`, or if that takes too long, the socket is closed. */
  release(left: Promise<void>): void {
    const late = new Promise((resolve) => setTimeout(resolve, LEAVE_MS))
    this.#isFree = Promise.race([left, late]).catch(() => {}).then(() => this.client.disconnect())
  }
}
