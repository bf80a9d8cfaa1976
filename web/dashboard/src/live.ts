// The channels that the dashboard listens to: the organization's two, and that of the open conversation.
import { type RealtimeChannel, RealtimeClient } from '@supabase/realtime-js'
import { type Campfire, type CampfireChannel, type CampfireEvent, createCampfire, type Status } from 'campfire-client'
import type { Conversation, Me, Message, Receipt } from './rows.js'

export interface Sender {
  type: 'agent' | 'visitor' | 'service'
  id: string | null
}

/** `live`: events come. Otherwise why they do not; they will all the same, once it is live again. */
export interface Connection {
  isLive: boolean
  reason: string
}

export interface LivePorts {
  onConversation(conversation: Conversation, position: string | null, isNew: boolean): void
  onConversationDeleted(id: string, position: string | null): void
  onMessage(message: Message): void
  onReceipt(receipt: Receipt): void
  onTyping(conversation: string, sender: Sender, isTyping: boolean): void
  /** User ids. */
  onOnline(agents: Set<string>): void
  onViewers(conversation: string, agents: Set<string>, isVisitorThere: boolean): void
  /** The open conversation's channel is joined: what committed before is not an event of it. */
  onOpened(conversation: string): void
  /** Events are missing, of a conversation or of all. */
  onGap(conversation: string | null): void
  onConnection(connection: Connection): void
}

/** The relay ends what is not renewed after five seconds. */
const TYPING_RENEWAL_MS = 3_000

export class Live {
  readonly #client: RealtimeClient
  readonly #campfire: Campfire
  readonly #ports: LivePorts
  readonly #me: Me
  readonly #organization: CampfireChannel
  readonly #conversations: CampfireChannel
  readonly #statuses = new Map<CampfireChannel, { status: Status; reason: string }>()
  /** By conversation; each keeps its position while it is not joined. */
  readonly #opened = new Map<string, CampfireChannel>()
  #open: string | null = null
  #typedAt = -Infinity
  /** Agents with a dashboard, and those that the relay has told of. */
  #present = new Set<string>()
  readonly #told = new Set<string>()

  constructor(relay: URL, apikey: string, me: Me, getToken: () => Promise<string>, ports: LivePorts) {
    this.#me = me
    this.#ports = ports
    const endpoint = new URL('realtime/v1', relay)
    endpoint.protocol = relay.protocol.replace('http', 'ws')
    this.#client = new RealtimeClient(endpoint.href, {
      params: { apikey },
      // A connection that is open in one direction only is noticed by them.
      heartbeatIntervalMs: 15_000,
    })
    this.#campfire = createCampfire(this.#client, {
      getToken,
      onIncomplete: ({ name }) => ports.onGap(this.#conversationOf(name)),
    })
    this.#organization = this.#campfire.channel(me.channels.organization, this.#withPresence((agents) => {
      this.#present = agents
      this.#tellOnline()
    }))
    this.#conversations = this.#campfire.channel(me.channels.conversations)
    const conversation = (isNew: boolean) => ({ payload, meta }: CampfireEvent) =>
      ports.onConversation(payload as Conversation, meta.id ?? null, isNew)
    this.#organization
      .on('conversation:created', conversation(true))
      .on('conversation:updated', conversation(false))
      .on('conversation:deleted', ({ payload, meta }) => ports.onConversationDeleted(payload.id, meta.id ?? null))
      .on('agent:status:online', ({ payload }) => this.#tell(payload.user_id, true))
      .on('agent:status:offline', ({ payload }) => this.#tell(payload.user_id, false))
    this.#conversations.on('message:created', ({ payload }) => ports.onMessage(payload as Message))
    for (const channel of [this.#organization, this.#conversations]) {
      channel.subscribe((status, error) => this.#changed(channel, status, error?.message ?? ''))
    }
  }

  /** Listens to a conversation, and says who views it. */
  open(conversation: string): void {
    this.leave()
    this.#open = conversation
    const channel = this.#opened.get(conversation) ?? this.#make(conversation)
    channel.subscribe((status) => {
      if (status === 'joined' && this.#open === conversation) this.#ports.onOpened(conversation)
    })
  }

  leave(): void {
    const conversation = this.#open
    if (conversation === null) return
    this.#open = null
    this.#typedAt = -Infinity
    void this.#opened.get(conversation)?.unsubscribe()
  }

  /** The agent types into the open conversation, or no longer does. */
  typing(isTyping: boolean): void {
    const channel = this.#open === null ? undefined : this.#opened.get(this.#open)
    const now = performance.now()
    if (!channel || (isTyping ? now - this.#typedAt < TYPING_RENEWAL_MS : this.#typedAt === -Infinity)) return
    this.#typedAt = isTyping ? now : -Infinity
    void channel.send(isTyping ? 'typing:start' : 'typing:stop', {})
  }

  /** Notices at once if the connection was lost while nobody looked. */
  probe(): void {
    if (this.#client.isConnected()) void this.#client.sendHeartbeat()
  }

  async close(): Promise<void> {
    await this.#campfire.close()
    await this.#client.disconnect()
  }

  #make(conversation: string): CampfireChannel {
    const name = `${this.#me.channels.organization}:conv:${conversation}`
    const channel = this.#campfire.channel(name, this.#withPresence((present) => {
      // The visitor's own key: the relay says that it is there.
      const isVisitorThere = present.delete(conversation)
      if (this.#open === conversation) this.#ports.onViewers(conversation, present, isVisitorThere)
    }))
    const typing = (isTyping: boolean) => ({ meta }: CampfireEvent) =>
      this.#ports.onTyping(conversation, meta.sender as Sender, isTyping)
    channel
      .on('message:created', ({ payload }) => this.#ports.onMessage(payload as Message))
      .on('read:receipt', ({ payload }) => this.#ports.onReceipt(payload as Receipt))
      .on('typing:start', typing(true))
      .on('typing:stop', typing(false))
    this.#opened.set(conversation, channel)
    return channel
  }

  /** The relay knows agents by their tokens: the key of a presence is a user id, whatever a client says. */
  #withPresence(onChange: (keys: Set<string>) => void) {
    return {
      presence: { enabled: true },
      attach: (stock: RealtimeChannel) => {
        stock.on('presence', { event: 'sync' }, () => onChange(new Set(Object.keys(stock.presenceState()))))
        // Also after each join that the stock client makes by itself.
        stock.joinPush.receive('ok', () => {
          if (this.#me.agent) setTimeout(() => void stock.track({}), 0)
        })
      },
    }
  }

  #conversationOf(name: string): string | null {
    return name.startsWith(`${this.#me.channels.organization}:conv:`) ? name.slice(name.lastIndexOf(':') + 1) : null
  }

  #tell(agent: string, isOnline: boolean): void {
    if (isOnline) this.#told.add(agent)
    else this.#told.delete(agent)
    this.#tellOnline()
  }

  #tellOnline(): void {
    this.#ports.onOnline(new Set([...this.#present, ...this.#told]))
  }

  #changed(channel: CampfireChannel, status: Status, reason: string): void {
    this.#statuses.set(channel, { status, reason })
    const all = [...this.#statuses.values()]
    const waiting = all.find((one) => one.status !== 'joined')
    this.#ports.onConnection({ isLive: all.length === 2 && !waiting, reason: waiting?.reason ?? '' })
  }
}
