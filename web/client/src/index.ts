export { createCampfire } from './campfire.js'
export type { Campfire, CampfireOptions, PositionStorage } from './campfire.js'
export type { Backoff } from './backoff.js'
export type {
  CampfireChannel, CampfireEvent, ChannelOptions, Listener, Status, StatusCallback,
} from './channel.js'
export type { Meta } from './stock.js'
export type { GetToken } from './token.js'
