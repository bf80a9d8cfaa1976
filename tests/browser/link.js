// The network between a page and the relay: it can be cut, it can swallow what the relay says, and it can hold back the
// stream while answers of the API come through.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

export class Link {
  #pairs = new Set()
  #isCut = false
  #isHolding = false

  static async to(url) {
    const link = new Link()
    const { hostname, port } = new URL(url)
    link.server = createServer((near) => {
      if (link.#isCut) return near.destroy()
      const far = connect(Number(port), hostname)
      const pair = { near, far, isMute: false, isStream: false, held: [] }
      link.#pairs.add(pair)
      const end = () => {
        link.#pairs.delete(pair)
        near.destroy()
        far.destroy()
      }
      for (const socket of [near, far]) socket.on('error', end).on('close', end)
      // A browser takes a connection of its own for a socket, and says so first.
      near.once('data', (data) => { pair.isStream = /^upgrade: websocket/im.test(data.toString('latin1')) })
      near.pipe(far)
      // Read all the same: the relay must not notice.
      far.on('data', (data) => {
        if (pair.isMute) return
        if (link.#isHolding && pair.isStream) pair.held.push(data)
        else near.write(data)
      })
    }).listen(0, '127.0.0.1')
    await once(link.server, 'listening')
    link.url = `http://127.0.0.1:${link.server.address().port}`
    return link
  }

  /** Ends all connections and takes no more. */
  cut() {
    this.#isCut = true
    for (const { near, far } of this.#pairs) {
      near.destroy()
      far.destroy()
    }
  }

  mend() {
    this.#isCut = false
  }

  /** What the relay says gets lost from now on, on connections that exist: neither side hears that they are broken. */
  mute() {
    for (const pair of this.#pairs) pair.isMute = true
  }

  /** What the relay says on sockets waits from now on. */
  hold() {
    this.#isHolding = true
  }

  /** It comes now, and what follows at once. */
  release() {
    this.#isHolding = false
    for (const { near, held } of this.#pairs) for (const data of held.splice(0)) near.write(data)
  }

  close() {
    this.cut()
    this.server.close()
  }
}
