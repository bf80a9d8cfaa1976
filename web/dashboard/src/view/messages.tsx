// The messages of the open conversation. Those of the thread's window are on the page; the reader's place stays when
// others come or go.
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { Desk } from '../desk.js'
import type { Pending } from '../outbox.js'
import type { Message } from '../rows.js'
import type { Thread } from '../thread.js'
import { clock, dayOf, fullTime, nameOf, segments } from '../text.js'
import { Icon } from './parts.js'

/** So near an edge, what lies beyond it is fetched. */
const NEAR = 600
/** As good as at the end. */
const END = 32
/** Messages of one sender that follow one another within this are one group. */
const GROUP_MS = 5 * 60_000

export function Messages({ desk, thread, now, onChange }: {
  desk: Desk
  thread: Thread
  now: number
  onChange: () => void
}) {
  const box = useRef<HTMLDivElement>(null)
  /** The first message in sight, and where it is in the box. */
  const anchor = useRef<{ id: string; top: number } | null>(null)
  const pending = desk.outbox.of(thread.conversation).filter(({ id }) => !thread.has(id))
  const messages = thread.window
  const visitor = nameOf(desk.row)

  const hold = () => {
    const element = box.current!
    const { scrollTop } = element
    for (const child of element.querySelectorAll<HTMLElement>('[data-message]')) {
      if (child.offsetTop + child.offsetHeight <= scrollTop) continue
      anchor.current = { id: child.dataset.message!, top: child.offsetTop - scrollTop }
      return
    }
  }

  /** Moves the window, or asks for a page, where the reader comes near an edge. */
  const balance = () => {
    const element = box.current
    if (!element || thread.cursor === undefined) return
    const below = element.scrollHeight - element.scrollTop - element.clientHeight
    if (element.scrollTop < NEAR && thread.hasOlder) {
      if (thread.follows) {
        // At the end, older ones are wanted only if all that is known does not fill the box. Events may be ahead of what
        // is drawn: then the box says nothing.
        if (!thread.hasKnownOlder && element.scrollHeight <= element.clientHeight + NEAR) void desk.loadOlder()
      } else if (thread.showOlder()) onChange()
      else void desk.loadOlder()
    } else if (below < NEAR && !thread.reachesEnd) {
      thread.showNewer()
      onChange()
    }
  }

  const scrolled = () => {
    const element = box.current!
    thread.follow(element.scrollHeight - element.scrollTop - element.clientHeight < END)
    hold()
    balance()
    onChange()
  }

  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    if (thread.follows) element.scrollTop = element.scrollHeight
    else if (anchor.current) {
      const child = element.querySelector<HTMLElement>(`[data-message="${anchor.current.id}"]`)
      const moved = child ? child.offsetTop - element.scrollTop - anchor.current.top : 0
      if (Math.abs(moved) >= 1) element.scrollTop += moved
    }
    balance()
  })
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const element = entry!.target
      if (thread.follows) element.scrollTop = element.scrollHeight
    })
    observer.observe(box.current!)
    return () => observer.disconnect()
  }, [thread])

  const lastRead = [...messages].reverse().find((message) => message.sender_type !== 'visitor' && thread.isReadByVisitor(message))
  return (
    <div
      class="messages" ref={box} role="log" aria-label="Messages" aria-live="polite" aria-relevant="additions"
      aria-busy={thread.cursor === undefined} tabIndex={0} onScroll={scrolled}
    >
      <p class="edge">
        {thread.cursor === undefined ? 'Loading…' : thread.hasOlder ? 'Loading older messages…' : 'Beginning of the conversation'}
      </p>
      {messages.flatMap((message, index) => {
        const before = messages[index - 1]
        const day = dayOf(message.created_at, now)
        const isNewDay = !before || dayOf(before.created_at, now) !== day
        const heading = isNewDay
          ? [<p class="day" key={`day-${message.id}`}>{day}</p>]
          : []
        return [...heading, (
          <Bubble
            key={message.id} message={message} isFirst={isNewDay || !continues(before, message)}
            isSeen={message === lastRead} visitor={visitor}
          />
        )]
      })}
      {thread.reachesEnd && pending.map((one) => <PendingBubble key={one.id} pending={one} desk={desk} />)}
    </div>
  )
}

function continues(before: Message, message: Message): boolean {
  return before.sender_type === message.sender_type && before.sender_name === message.sender_name
    && Date.parse(message.created_at) - Date.parse(before.created_at) < GROUP_MS
}

const AUTHORS = { agent: 'Agent', ai: 'AI assistant', system: 'System' }

function Bubble({ message, visitor, isFirst, isSeen }: {
  message: Message
  visitor: string
  isFirst: boolean
  isSeen: boolean
}) {
  const { sender_type, sender_name, content, created_at } = message
  const author = sender_name || (sender_type === 'visitor' ? visitor : AUTHORS[sender_type])
  return (
    <article class={`message ${sender_type}${isFirst ? ' first' : ''}`} data-message={message.id}>
      {isFirst
        ? (
          <header>
            <span class="author">{author}</span>
            {sender_type === 'ai' && <span class="chip ai">AI</span>}
            <time dateTime={created_at} title={fullTime(created_at)}>{clock(created_at)}</time>
          </header>
        )
        : <span class="unseen">{author}: </span>}
      <Text content={content} />
      {isSeen && <footer class="state"><Icon name="seen" /> Seen</footer>}
    </article>
  )
}

function Text({ content }: { content: string }) {
  return (
    <p class="text" dir="auto">
      {segments(content).map(({ text, href }, index) => (
        href ? <a key={index} href={href} target="_blank" rel="noopener noreferrer nofollow">{text}</a> : text
      ))}
    </p>
  )
}

function PendingBubble({ pending, desk }: { pending: Pending; desk: Desk }) {
  const isFailed = pending.state === 'failed'
  return (
    <article class={`message agent pending${isFailed ? ' failed' : ''}`} data-message={pending.id}>
      <span class="unseen">You: </span>
      <Text content={pending.content} />
      <footer class="state">
        {isFailed
          ? (
            <>
              <span role="alert">Not sent: {pending.error}</span>
              <button type="button" onClick={() => desk.outbox.retry(pending.id)}><Icon name="retry" /> Retry</button>
              <button type="button" onClick={() => desk.outbox.discard(pending.id)}>Discard</button>
            </>
          )
          : 'Sending…'}
      </footer>
    </article>
  )
}
