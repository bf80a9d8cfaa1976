// Addresses in a message's text. Only http and https become links, and only after the browser's own parser has read
// them: what is shown is always the text as it was written.

export interface Part {
  text: string
  href: string | null
}

const ADDRESS = /https?:\/\/[^\s<>"'`\u0000-\u001f\u007f]+/giu
/** What ends a sentence rather than an address. */
const TAIL = /[.,;:!?…]+$/u

export function parts(text: string): Part[] {
  const found: Part[] = []
  let end = 0
  const plain = (until: number) => {
    if (until > end) found.push({ text: text.slice(end, until), href: null })
  }
  for (const match of text.matchAll(ADDRESS)) {
    const address = trimmed(match[0])
    const href = safe(address)
    if (href === null) continue
    plain(match.index)
    found.push({ text: address, href })
    end = match.index + address.length
  }
  plain(text.length)
  return found
}

function trimmed(address: string): string {
  const cut = address.replace(TAIL, '')
  // A bracket that was opened before the address closes after it.
  if (cut.endsWith(')') && !cut.includes('(')) return trimmed(cut.slice(0, -1))
  return cut
}

function safe(address: string): string | null {
  try {
    const { protocol, href, username, password } = new URL(address)
    // `https://bank.example@evil.example` is no address that a person would write.
    if (username !== '' || password !== '') return null
    return protocol === 'http:' || protocol === 'https:' ? href : null
  } catch {
    return null
  }
}
