import { render } from 'preact'
import { Api } from './api.js'
import { Desk } from './desk.js'
import { Live } from './live.js'
import type { Me } from './rows.js'
import { askEndpoint, endpointOf, Session, SignedOut } from './session.js'
import { App } from './view/app.js'
import { SignIn } from './view/sign_in.js'

const root = document.querySelector('#desk')!
const page = new URL(location.href)
const written = document.querySelector<HTMLMetaElement>('meta[name=campfire-session]')?.content ?? ''
const endpoint = endpointOf(written, page)
/** The page is at `dashboard/` of the relay. */
const relay = new URL('../', page)
const session = new Session(endpoint ? () => askEndpoint(endpoint) : null, sessionStorage)
const api = new Api(relay, session)

const RETRY_MS = 3_000
/** Times like `5m` grow old by themselves. */
const TICK_MS = 30_000

let desk: Desk | null = null
/** Why there is no desk yet. */
let state: 'starting' | 'signed out' = 'starting'
let problem = ''
let isPainting = false

/** However much happens, the page changes at most once a frame. */
function paint(): void {
  if (isPainting) return
  isPainting = true
  const draw = () => {
    isPainting = false
    render(view(), root)
    document.title = title()
  }
  // A page in the background has no frames, yet its title counts.
  if (document.hidden) setTimeout(draw, 250)
  else requestAnimationFrame(draw)
}

function title(): string {
  const unread = desk?.unreadConversations ?? 0
  return `${unread > 0 ? `(${unread}) ` : ''}${desk ? `${desk.me.organization.name} – ` : ''}Conversations`
}

function view() {
  if (desk && state === 'starting') {
    return (
      <App
        desk={desk} isPasted={session.isPasted} onChange={paint}
        onOpen={(id) => { location.hash = `#/${id}` }} onBack={() => { location.hash = '' }} onSignOut={signOut}
      />
    )
  }
  if (state === 'signed out') {
    return (
      <SignIn
        isPasted={session.isPasted} error={problem}
        onPaste={(token) => {
          session.paste(token)
          void start()
        }}
        onAgain={() => void start()}
      />
    )
  }
  return <main class="starting"><p role="status">{problem || 'Connecting…'}</p></main>
}

async function start(): Promise<void> {
  state = 'starting'
  problem = ''
  paint()
  let me: Me
  try {
    me = await api.me()
  } catch (error) {
    const { status, message, hint } = error as { status?: number; message: string; hint?: string }
    problem = `${message}${hint ? ` (${hint})` : ''}`
    if (error instanceof SignedOut || status === 401 || status === 403) {
      state = 'signed out'
      // Nothing is wrong for somebody who has just come.
      if (error instanceof SignedOut) problem = ''
      session.signOut()
    } else setTimeout(() => void start(), RETRY_MS)
    return paint()
  }
  const { apiKey } = me
  if (apiKey === null) {
    problem = 'The relay has no API key with role anon: its operator has to set CAMPFIRE_API_KEYS.'
    return paint()
  }
  // As somebody else: nothing of what was here is theirs.
  if (desk && (desk.me.organization.id !== me.organization.id || desk.me.agent?.user_id !== me.agent?.user_id)) {
    return location.reload()
  }
  desk ??= new Desk(api, me, (ports) => new Live(relay, apiKey, me, renew, ports), paint)
  follow()
  paint()
}

/** A new token for the channels; without one the agent has to log in again, and the channels come back by themselves. */
async function renew(): Promise<string> {
  try {
    return await session.renew()
  } catch (error) {
    if (error instanceof SignedOut) {
      state = 'signed out'
      problem = 'Your token has expired.'
      paint()
    }
    throw error
  }
}

function signOut(): void {
  session.signOut()
  location.hash = ''
  location.reload()
}

/** The conversation is in the address, so that a reload or a link opens it. */
function follow(): void {
  const id = /^#\/([0-9a-f-]{36})$/.exec(location.hash)?.[1]
  if (id) void desk?.open(id)
  else desk?.close()
}

addEventListener('hashchange', follow)
addEventListener('focus', paint)
addEventListener('online', () => desk?.resume())
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) desk?.resume()
  paint()
})
addEventListener('beforeunload', (event) => {
  if (desk && !desk.outbox.isEmpty) event.preventDefault()
})
setInterval(paint, TICK_MS)
void start()
