// Where a channel stands in the log. Pure: no client, no clock, no storage.

/** `<tag>.<timeline>.<commit LSN>.<change>`, all hexadecimal: of one tag, they sort as text. */
const POSITION = /^[0-9a-f]{4}\.[0-9a-f]{8}\.[0-9a-f]{16}\.[0-9a-f]{8}$/

export function isPosition(text: unknown): text is string {
  return typeof text === 'string' && POSITION.test(text)
}

/** What the relay says of a replay when it accepts a join. */
export interface ReplayReply {
  /** Nothing is missing between the position asked for and what follows. */
  complete: boolean
  /** The head at the join: reached once `count` events came. */
  position: string
  /** How many replayed events follow. */
  count: number
}

export function parseReplayReply(response: unknown): ReplayReply | null {
  const replay = (response as { replay?: Partial<ReplayReply> } | null | undefined)?.replay
  if (!replay || typeof replay.complete !== 'boolean' || !isPosition(replay.position)) return null
  return { complete: replay.complete, position: replay.position, count: Number(replay.count) || 0 }
}

/** The tag says of which database: positions of different databases have no order. */
const isAfter = (one: string, other: string) => one.slice(0, 4) !== other.slice(0, 4) || one > other

/**
 * The position of one channel. It is moved by row events, by the reply to a join (but only
 * once all that the reply promised has come) and by heartbeats.
 */
export class Bookmark {
  #position: string | null
  /** Everything up to here was delivered; null after a gap, when that can no longer be said. */
  #seen: string | null
  /** What is still to come of a replay before its position counts; null while not joined. */
  #awaited: { count: number; position: string; isSnapshot: boolean } | null = null
  #isCaughtUp = false

  constructor(position: string | null = null) {
    this.#position = position
    this.#seen = position
  }

  /** What to resume after. */
  get position(): string | null {
    return this.#position
  }

  /** Joined with a replay, and all of it came: heartbeats speak of this channel too. */
  get isCaughtUp(): boolean {
    return this.#isCaughtUp
  }

  /** `config.broadcast.replay` of the next join. Without a position it asks for one. */
  get replay(): { after: string } | Record<string, never> {
    return this.#position === null ? {} : { after: this.#position }
  }

  /**
   * The relay accepted a join. After an incomplete one nothing may be dropped as already
   * seen: the log may be another one than before, and shorter.
   */
  joined({ complete, position, count }: ReplayReply, isSnapshot = false): void {
    if (!complete) this.#seen = null
    this.#awaited = { count, position, isSnapshot }
    this.#isCaughtUp = false
    this.#settle()
  }

  /** What was received counts for nothing any more: the next join begins from nothing. */
  forget(): void {
    this.#position = null
    this.#seen = null
    this.left()
  }

  /** The connection is gone, or the channel: what was still to come will not. */
  left(): void {
    this.#awaited = null
    this.#isCaughtUp = false
  }

  /** Whether the row event of this position was already delivered. */
  hasSeen(position: string): boolean {
    return this.#seen !== null && !isAfter(position, this.#seen)
  }

  /** A row event was delivered. What follows the rows of a snapshot counts only together with all of it. */
  delivered(position: string): void {
    if (!this.#awaited?.isSnapshot) this.#move(position)
  }

  /** An event came over the wire, new or not: to be told after the application had it, before `delivered`. */
  received(isReplayed: boolean, isRow: boolean): void {
    if (!this.#awaited) return
    if (isReplayed) this.#awaited.count -= 1
    // Row events come in order, so a live one says that the replay is over, even if
    // parts of it left the window on the way and never came.
    else if (isRow) this.#awaited.count = 0
    this.#settle()
  }

  /**
   * The relay says that events up to a position are missing, and from there on none is; the
   * application has been told. Within a replay, not all of its events will come then.
   */
  announced(position: string, isOfTheJoin: boolean): void {
    this.#position = position
    this.#seen = position
    if (!isOfTheJoin && this.#awaited) {
      this.#awaited = null
      this.#isCaughtUp = true
    }
  }

  /** The reply to a heartbeat: everything up to there is already on this socket. */
  heartbeat(position: string): void {
    if (this.#isCaughtUp) this.#move(position)
  }

  #settle(): void {
    if (!this.#awaited || this.#awaited.count > 0) return
    this.#move(this.#awaited.position)
    this.#awaited = null
    this.#isCaughtUp = true
  }

  #move(position: string): void {
    if (this.#seen !== null && !isAfter(position, this.#seen)) return
    this.#position = position
    this.#seen = position
  }
}
