// Times, names and links as people read them. Pure.

const CLOCK = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
const WEEKDAY = new Intl.DateTimeFormat('en', { weekday: 'short' })
const DAY = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short' })
const DAY_AND_YEAR = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'short', year: 'numeric' })
const LONG_DAY = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long' })
const FULL = new Intl.DateTimeFormat('en', { dateStyle: 'long', timeStyle: 'short', hourCycle: 'h23' })

const DAY_MS = 86_400_000

export const clock = (time: string): string => CLOCK.format(new Date(time))

export const fullTime = (time: string): string => FULL.format(new Date(time))

/** Short, for lists: `now`, `5m`, `3h`, `Tue`, `12 Nov`. */
export function ago(time: string, now: number): string {
  const date = new Date(time)
  const minutes = Math.floor((now - date.getTime()) / 60_000)
  if (minutes < 1) return 'now'
  if (minutes < 60) return `${minutes}m`
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h`
  if (minutes < 6 * 24 * 60) return WEEKDAY.format(date)
  return (now - date.getTime() < 300 * DAY_MS ? DAY : DAY_AND_YEAR).format(date)
}

/** The day as a heading, and as what tells days apart. */
export function dayOf(time: string, now: number): string {
  const date = new Date(time)
  const startOfDay = (of: Date) => new Date(of.getFullYear(), of.getMonth(), of.getDate()).getTime()
  const days = Math.round((startOfDay(new Date(now)) - startOfDay(date)) / DAY_MS)
  if (days === 0) return 'Today'
  if (days === 1) return 'Yesterday'
  return (days < 300 ? LONG_DAY : DAY_AND_YEAR).format(date)
}

export function nameOf(conversation: { customer_name: string | null; customer_email: string | null } | undefined): string {
  return conversation?.customer_name?.trim() || conversation?.customer_email?.trim() || 'Visitor'
}

export function initials(name: string): string {
  const words = name.split(/[\s@._-]+/u).filter(Boolean)
  const [first, last] = [words[0], words.length > 1 ? words.at(-1) : undefined]
  return [first, last].map((word) => (word ? [...word][0] : '')).join('').toUpperCase() || '?'
}

/** One of `count` colours, always the same for the same id. */
export function colorOf(id: string, count: number): number {
  let sum = 0
  for (const character of id) sum = (sum * 31 + character.charCodeAt(0)) % 65_521
  return sum % count
}

export interface Segment {
  text: string
  href: string | null
}

/** What looks like an address of the web becomes a link, and nothing else does. */
export function segments(text: string): Segment[] {
  const found: Segment[] = []
  let end = 0
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+/giu)) {
    // What ends the sentence is not a part of it.
    const link = match[0].replace(/[).,;:!?\]}]+$/u, '')
    if (!URL.canParse(link)) continue
    if (match.index > end) found.push({ text: text.slice(end, match.index), href: null })
    found.push({ text: link, href: link })
    end = match.index + link.length
  }
  if (end < text.length) found.push({ text: text.slice(end), href: null })
  return found
}
