import { useEffect, useState } from 'preact/hooks'
import type { Desk } from '../desk.js'
import { Conversation } from './conversation.js'
import { Conversations } from './conversations.js'
import { Avatar, Icon } from './parts.js'

/** How wide a page must be for the details beside the messages. */
const WIDE = '(min-width: 1100px)'

export function App({ desk, isPasted, onOpen, onBack, onSignOut, onChange }: {
  desk: Desk
  isPasted: boolean
  onOpen: (id: string) => void
  onBack: () => void
  onSignOut: () => void
  onChange: () => void
}) {
  const [isDetailed, setDetailed] = useState(() => matchMedia(WIDE).matches)
  const { thread } = desk
  const now = Date.now()
  useEffect(() => {
    if (!thread?.follows || document.visibilityState !== 'visible' || !document.hasFocus()) return
    void desk.attend()
  })
  return (
    <main data-live={desk.connection.isLive} class={`desk${thread ? ' with-thread' : ''}${thread && isDetailed ? ' with-details' : ''}`}>
      <h1 class="unseen">Conversations of {desk.me.organization.name}</h1>
      <div class="side">
        <header class="bar">
          <h2>{desk.me.organization.name}</h2>
          <Online desk={desk} />
          {isPasted && <button type="button" class="plain small" onClick={onSignOut}>Sign out</button>}
        </header>
        <Connection desk={desk} />
        <Conversations desk={desk} now={now} onOpen={onOpen} />
      </div>
      {thread
        ? (
          <Conversation
            desk={desk} thread={thread} now={now} isDetailed={isDetailed} onBack={onBack} onChange={onChange}
            onDetails={() => setDetailed(!isDetailed)}
          />
        )
        : (
          <section class="nothing" aria-label="Conversation">
            <Icon name="chat" />
            <h2>No conversation open</h2>
            <p>Choose one from the list. <kbd>/</kbd> searches, arrow keys move, <kbd>Enter</kbd> opens.</p>
          </section>
        )}
      {desk.notice && (
        <div class="notice" role="alert">
          <span>{desk.notice}</span>
          <button type="button" class="plain" aria-label="Dismiss" onClick={() => desk.putNoticeAway()}><Icon name="close" /></button>
        </div>
      )}
    </main>
  )
}

/** How long a connection may be away before that is worth a line. */
const PATIENCE_MS = 1_500

function Connection({ desk }: { desk: Desk }) {
  const { isLive, reason } = desk.connection
  const [isLate, setLate] = useState(false)
  useEffect(() => {
    setLate(false)
    if (isLive) return
    const timer = setTimeout(() => setLate(true), PATIENCE_MS)
    return () => clearTimeout(timer)
  }, [isLive])
  return (
    <div class="connection" role="status" title={reason}>
      {!isLive && isLate && 'Reconnecting… What you see may be out of date.'}
    </div>
  )
}

function Online({ desk }: { desk: Desk }) {
  const ids = [...desk.online].sort()
  const names = ids.map((id) => desk.nameOf(id))
  return (
    <div class="online" title={names.join(', ')} role="status" aria-label={`Agents online: ${names.join(', ') || 'none'}`}>
      {ids.slice(0, 5).map((id, index) => <Avatar key={id} id={id} name={names[index]!} isOnline />)}
      {ids.length > 5 && <span class="more">+{ids.length - 5}</span>}
    </div>
  )
}
