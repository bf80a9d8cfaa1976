// The stock client on a socket that only plays one, and the helper around it.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { RealtimeClient } from '@supabase/realtime-js'
import { type CampfireOptions, createCampfire } from '../src/index.js'
import type { StockRealtime } from '../src/stock.js'

export const at = (number: number) => `abcd.00000001.${number.toString(16).padStart(16, '0')}.00000000`
export const NAME = 'org:00000000-0000-4000-8000-0000000000a0'

type Frame = [joinRef: string | null, ref: string | null, topic: string, event: string, payload: any]

/** A socket of which the test is the other end. */
export class FakeSocket {
  static all: FakeSocket[] = []
  static onOpened: (socket: FakeSocket) => void = () => {}
  /** What becomes of a new socket. */
  static fate: (socket: FakeSocket) => void
  readyState = 0
  sent: Frame[] = []
  onSent: () => void = () => {}
  onopen: (event: object) => void = () => {}
  onmessage: (event: object) => void = () => {}
  onclose: (event: object) => void = () => {}
  onerror: (event: object) => void = () => {}

  constructor(readonly address: string | URL) {
    FakeSocket.all.push(this)
    FakeSocket.fate(this)
  }

  open(): void {
    this.readyState = 1
    FakeSocket.onOpened(this)
    this.onopen({})
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text))
    this.onSent()
  }

  close(code = 1000): void {
    this.readyState = 3
    this.onclose({ code })
  }

  say(...frame: Frame): void {
    this.onmessage({ data: JSON.stringify(frame) })
  }

  /** The next frame of this kind, also one that was sent already. */
  async next(event: string): Promise<Frame> {
    for (;;) {
      const index = this.sent.findIndex((frame) => frame[3] === event)
      if (index >= 0) return this.sent.splice(index, 1)[0]!
      await new Promise<void>((resolve) => {
        this.onSent = resolve
      })
    }
  }

  row(number: number, extra: object = {}): void {
    const payload = { type: 'broadcast', event: 'message:created', payload: { number }, meta: { id: at(number), ...extra } }
    this.say(null, null, `realtime:${NAME}`, 'broadcast', payload)
  }

  async join(reply: object): Promise<any> {
    const [joinRef, ref, topic, , payload] = await this.next('phx_join')
    this.say(joinRef, ref, topic, 'phx_reply', { status: 'ok', response: { postgres_changes: [], ...reply } })
    return payload
  }
}

export function setUp(t: TestContext, options: Partial<CampfireOptions> = {}) {
  FakeSocket.all = []
  FakeSocket.fate = (socket) => setImmediate(() => socket.open())
  const opened = new Promise<FakeSocket>((resolve) => {
    FakeSocket.onOpened = resolve
  })
  const client = new RealtimeClient('ws://relay.test/realtime/v1', {
    params: { apikey: 'key' }, transport: FakeSocket as any, reconnectAfterMs: () => 1, heartbeatIntervalMs: 60_000,
  })
  // Compiles only as long as the declarations fit.
  const stock: StockRealtime = client
  const campfire = createCampfire(stock, {
    getToken: () => 'token', onIncomplete: () => assert.fail('nothing is missing'),
    backoff: { minMs: 1, maxMs: 10 }, ...options,
  })
  t.after(async () => {
    await campfire.close()
    await client.disconnect()
  })
  const nextSocket = () => new Promise<FakeSocket>((resolve) => {
    FakeSocket.onOpened = resolve
  })
  return { client, campfire, opened, nextSocket }
}
