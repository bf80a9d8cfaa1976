// An agent who types in a conversation until killed: `node typist.js CONVERSATION`.
import { setInterval } from 'node:timers'
import { agentClaims, connect, organization, subscribe } from '../../clients/support.js'

const client = await connect({ after() {} }, '2.0.0', agentClaims())
const { channel } = await subscribe(client, `org:${organization}:conv:${process.argv[2]}`, { config: { private: true } })
const type = () => channel.send({ type: 'broadcast', event: 'typing:start', payload: {} })
await type()
setInterval(type, 1_000)
console.log('types')
