// What to do after a join is refused, by the code in front of the reason: the column `retry` of docs/protocol.md.
// Where texts of one code differ there, it is what helps more of them.

/** Not at all; with another token; with the same one. What is tried again waits first. */
export type Retry = 'never' | 'token' | 'later'

const NEVER: ReadonlySet<string> = new Set([
  'TopicNameRequired',
  'InvalidTopic',
  'PrivateOnly',
  'HeadersTooLarge',
  'PostgresChangesNotSupported',
  'InvalidPresenceKey',
  'PresenceKeyTooLong',
  'EventNotAllowed',
  'EventNameTooLong',
  'PresencePayloadTooLarge',
])

const LATER: ReadonlySet<string> = new Set([
  'PoliciesNotInstalled',
  'QueryCanceled',
  'MissingPartition',
  'UnableToConnectToProject',
  'IncreaseConnectionPool',
  'ConnectionRateLimitReached',
  'ReplicationNotEstablished',
  'UnableToReplayMessages',
  'SnapshotUnavailable',
  'SnapshotDenied',
  'ChannelRateLimitReached',
  'ClientJoinRateLimitReached',
  'MessagePerSecondRateLimitReached',
  'PresenceChannelFull',
  'PresenceFull',
  'ClientPresenceRateLimitReached',
])

/** Of a `reason`. A code that is not known, perhaps of a newer relay, may be about the token. */
export function retryOf(reason: string): Retry {
  const code = reason.split(':', 1)[0]!
  if (NEVER.has(code)) return 'never'
  return LATER.has(code) ? 'later' : 'token'
}
