// What is used of the stock client, and no more: members that its type declarations
// publish. Written out, so that any copy of realtime-js fits, the one inside supabase-js
// too; test/stock.test.ts holds it against the declarations.

export interface StockFrame {
  topic: string
  event: string
  payload: unknown
}

export interface StockBroadcast {
  event: string
  payload?: unknown
  meta?: Meta
}

/** What the relay says about an event. */
export interface Meta {
  /** The position of a row event; other events have none, or one in `position`. */
  id?: string
  position?: string
  committed_at?: string
  replayed?: boolean
  [key: string]: unknown
}

export interface StockPush {
  payload: () => Record<string, unknown>
  receive(status: string, callback: (response: any) => void): StockPush
}

export interface StockChannel {
  readonly joinPush: StockPush
  on(type: 'broadcast', filter: { event: string }, callback: (message: any) => void): StockChannel
  on(type: 'system', filter: {}, callback: (message: any) => void): StockChannel
  subscribe(callback: (status: any, error?: Error) => void): StockChannel
  send(message: { type: 'broadcast'; event: string; payload?: any }): Promise<string>
  updateJoinPayload(payload: Record<string, any>): void
}

export interface StockRealtime {
  accessToken: (() => Promise<string | null>) | null
  readonly accessTokenValue: string | null
  readonly stateChangeCallbacks: Record<'open' | 'close' | 'error' | 'message', [string, Function][]>
  readonly worker?: boolean | undefined
  endpointURL(): string
  connect(): void
  disconnect(): Promise<string>
  channel(name: string, parameters: any): StockChannel
  getChannels(): { topic: string }[]
  removeChannel(channel: any): Promise<string>
  setAuth(token?: string | null): Promise<void>
}
