// An agent who types in a conversation until killed, and writes a line each time: `node typist.js CONVERSATION`.
import { setInterval } from 'node:timers'
import { agentClaims, connect, organization, subscribe } from '../../clients/support.js'

const client = await connect({ after() {} }, '2.0.0', agentClaims())
const { channel } = await subscribe(client, `org:${organization}:conv:${process.argv[2]}`, { config: { private: true } })
const type = async () => {
  await channel.send({ type: 'broadcast', event: 'typing:start', payload: {} })
  console.log('types')
}
await type()
setInterval(type, 1_000)
