import { Access } from './access.js'
import { type Backoff, DEFAULT_BACKOFF } from './backoff.js'
import { CampfireChannel, type ChannelOptions, guarded } from './channel.js'
import { Connection } from './connection.js'
import { isPosition } from './position.js'
import type { StockFrame, StockRealtime } from './stock.js'
import { type GetToken, TokenKeeper } from './token.js'

/** The part of the web's Storage that is used. */
export interface PositionStorage {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
}

export interface CampfireOptions {
  /** Brings a new token. Called when one is needed or will soon be, never to look at one again. */
  getToken: GetToken
  /** Events are missing, for the reason given: fetch anew what is shown. What follows is complete again. */
  onIncomplete: (channel: CampfireChannel, reason: string) => void
  /**
   * Keeps positions over a reload. Use `sessionStorage`, which is a tab's own: tabs that
   * share one storage would resume from one another's positions.
   */
  storage?: PositionStorage
  /** Between tries after a refusal or an unasked close. One second to thirty unless said otherwise. */
  backoff?: Backoff
}

export interface Campfire {
  /** The channel of this name; the same object for the same name. */
  channel(name: string, options?: ChannelOptions): CampfireChannel
  /** Leaves all channels and stops refreshing the token. The client stays usable. */
  close(): Promise<void>
}

const HOOK = 'campfire'
const KEY_PREFIX = 'campfire:position:'

/** Wraps a client of supabase-js or realtime-js, which stays as it is. */
export function createCampfire(
  client: StockRealtime | { realtime: StockRealtime },
  { getToken, onIncomplete, storage, backoff = DEFAULT_BACKOFF }: CampfireOptions,
): Campfire {
  const realtime = 'realtime' in client ? client.realtime : client
  const channels = new Map<string, CampfireChannel>()

  // setAuth() sends the token to all joined channels if it is new.
  const tokens = new TokenKeeper(getToken, () => void realtime.setAuth().catch(() => {}), backoff)
  const access = new Access(realtime, (notBefore) => tokens.current(notBefore))
  const connection = Connection.of(realtime, backoff)

  // Replies to heartbeats belong to no channel. Frames of channels are dispatched before
  // these callbacks run, so what a position speaks of has been delivered.
  const hook: [string, Function] = [HOOK, ({ topic, event, payload }: StockFrame) => {
    if (topic !== 'phoenix' || event !== 'phx_reply') return
    const position = (payload as { response?: { position?: unknown } })?.response?.position
    if (isPosition(position)) for (const channel of channels.values()) channel.heartbeat(position)
  }]
  realtime.stateChangeCallbacks.message.push(hook)

  // `bcast:` in front of a name changes nothing.
  const key = (name: string) => KEY_PREFIX + name.replace(/^bcast:/, '')

  const host = {
    realtime,
    backoff,
    get forbidden() {
      return connection.forbidden
    },
    async authorize(notBefore: number) {
      // First the token, since setAuth() keeps an old one if there is no new one.
      const token = await access.token(notBefore)
      // A setAuth() is void if another one begins before it is done, so that to have
      // awaited one is not enough.
      for (let tries = 0; tries < 5; tries += 1) {
        await realtime.setAuth()
        if (realtime.accessTokenValue === token) return
      }
    },
    load(name: string) {
      try {
        const position = storage?.getItem(key(name))
        return isPosition(position) ? position : null
      } catch {
        return null // A storage that is forbidden is as good as none.
      }
    },
    save(name: string, position: string) {
      try {
        storage?.setItem(key(name), position)
      } catch {
        // Full or forbidden: the position is kept in memory all the same.
      }
    },
    onIncomplete(channel: CampfireChannel, reason: string) {
      guarded(() => onIncomplete(channel, reason))
    },
  }

  let isClosed = false
  return {
    channel(name, options) {
      const known = channels.get(name)
      if (known) return known
      const channel = new CampfireChannel(host, name, options)
      channels.set(name, channel)
      return channel
    },
    async close() {
      if (isClosed) return
      isClosed = true
      tokens.close()
      access.close()
      await Promise.all([...channels.values()].map((channel) => channel.unsubscribe()))
      channels.clear()
      const callbacks = realtime.stateChangeCallbacks.message
      const index = callbacks.indexOf(hook)
      if (index >= 0) callbacks.splice(index, 1)
      connection.release()
    },
  }
}
