// The network between a page and the relay: it can be cut, and it can swallow what the relay says.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

export class Link {
  #pairs = new Set()
  #isCut = false
  #isMute = false

  static async to(url) {
    const link = new Link()
    const { hostname, port } = new URL(url)
    link.server = createServer((near) => {
      if (link.#isCut) return near.destroy()
      const far = connect(Number(port), hostname)
      const pair = { near, far }
      link.#pairs.add(pair)
      const end = () => {
        link.#pairs.delete(pair)
        near.destroy()
        far.destroy()
      }
      for (const socket of [near, far]) socket.on('error', end).on('close', end)
      near.pipe(far)
      // Read all the same: the relay must not notice.
      far.on('data', (data) => {
        if (!link.#isMute) near.write(data)
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

  /** What the relay says gets lost from now on, on connections that exist. */
  mute() {
    this.#isMute = true
  }

  mend() {
    this.#isCut = false
    // A stream with a hole is of no use.
    if (this.#isMute) {
      this.cut()
      this.#isCut = false
    }
    this.#isMute = false
  }

  close() {
    this.cut()
    this.server.close()
  }
}
