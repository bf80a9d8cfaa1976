// Ids of messages. The database derives a message's id from the client's key (`campfire.message_id`: UUIDv5 in the
// namespace of the conversation), so that the widget knows it before the request is answered, and a repeated request
// is no second message. Browsers have SHA-1 only on secure pages, and only asynchronously; the package `uuid` is a
// thirtieth of all that a page may load.

export function newClientKey(): string {
  return format(crypto.getRandomValues(new Uint8Array(16)), 4)
}

export function messageId(clientKey: string, conversationId: string): string {
  const namespace = conversationId.replaceAll('-', '').match(/../g)!.map((byte) => parseInt(byte, 16))
  const name = new TextEncoder().encode(clientKey.toLowerCase())
  return format(sha1(Uint8Array.of(...namespace, ...name)), 5)
}

function format(bytes: Uint8Array, version: number): string {
  bytes[6] = (bytes[6]! & 0x0f) | (version << 4)
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-')
}

const rotate = (word: number, by: number) => (word << by) | (word >>> (32 - by))

/** FIPS 180-4. */
export function sha1(message: Uint8Array): Uint8Array {
  // The message, a one bit, zeros, and its length in bits.
  const blocks = new DataView(new ArrayBuffer(((message.length + 8) >> 6) * 64 + 64))
  message.forEach((byte, at) => blocks.setUint8(at, byte))
  blocks.setUint8(message.length, 0x80)
  blocks.setUint32(blocks.byteLength - 4, message.length * 8)
  const state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]
  const words: number[] = []
  for (let block = 0; block < blocks.byteLength; block += 64) {
    let [a, b, c, d, e] = state as [number, number, number, number, number]
    for (let round = 0; round < 80; round += 1) {
      words[round] = round < 16 ? blocks.getInt32(block + round * 4)
        : rotate(words[round - 3]! ^ words[round - 8]! ^ words[round - 14]! ^ words[round - 16]!, 1)
      const [mix, constant] = round < 20 ? [(b & c) | (~b & d), 0x5a827999]
        : round < 40 ? [b ^ c ^ d, 0x6ed9eba1]
          : round < 60 ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc] : [b ^ c ^ d, 0xca62c1d6]
      const next = (rotate(a, 5) + mix + e + constant + words[round]!) | 0
      ;[a, b, c, d, e] = [next, a, rotate(b, 30), c, d]
    }
    ;[a, b, c, d, e].forEach((word, index) => {
      state[index] = (state[index]! + word) | 0
    })
  }
  const digest = new DataView(new ArrayBuffer(20))
  state.forEach((word, index) => digest.setInt32(index * 4, word))
  return new Uint8Array(digest.buffer)
}
