// The widget and the dashboard are the products', each in a frame. This page only listens: an agent on the unmodified
// supabase-js, joined to the channels of the organization and of every conversation that it hears of.

/** Conversations whose own channels are listened to: two each, of the hundred that a socket may join. */
const FOLLOWED_MAX = 45
const ROWS_MAX = 200
const PLOTTED = 240

const session = await fetch('/demo/session').then((answer) => answer.json())
const organization = `org:${session.organization}`
document.querySelector('#dashboard').src = `${session.relay}/dashboard/`

const client = supabase.createClient(session.relay, session.api_key, {
  accessToken: async () => (await fetch('/demo/token').then((answer) => answer.json())).token,
})
// Before the first subscribe, or the first join goes out without the token.
await client.realtime.setAuth()

const status = document.querySelector('#status')
const events = document.querySelector('#events')
/** The rows of changes by their positions: one change comes on several channels. */
const rows = new Map()
const latencies = []
const followed = new Map()

function listen(name, onStatus = () => {}) {
  const channel = client.channel(name, { config: { broadcast: { ack: false }, presence: { key: '' } } })
  channel.on('broadcast', { event: '*' }, ({ event, payload, meta }) => {
    const took = meta?.committed_at ? age(meta.committed_at) : null
    show(name, event, meta?.id, took)
    if (name.endsWith(':conversations') && event === 'conversation:updated') noteHandover(payload, meta.committed_at)
    const conversation = payload?.conversation_id ?? (event.startsWith('conversation:') ? payload?.id : null)
    if (conversation && event !== 'conversation:deleted') follow(conversation)
  })
  return channel.subscribe(onStatus)
}

function follow(conversation) {
  if (followed.has(conversation)) return
  if (followed.size >= FOLLOWED_MAX) {
    const [oldest, channels] = followed.entries().next().value
    followed.delete(oldest)
    for (const channel of channels) client.removeChannel(channel)
  }
  followed.set(conversation, ['conv', 'widget'].map((kind) => listen(`${organization}:${kind}:${conversation}`)))
}

/** Milliseconds since a commit, whose time has six digits. */
function age(committed) {
  const micros = Number(committed.slice(-4, -1)) / 1000
  return Math.max(0, performance.timeOrigin + performance.now() - Date.parse(committed) - micros)
}

/** The AI hands over by status and assignee: the time from that commit to the frame that shows it. */
function noteHandover({ status, assignee_id: agent }, committed) {
  // A page in the background has no frames.
  if (status !== 'pending' || agent === null || document.hidden) return
  requestAnimationFrame(() => setTimeout(() => {
    document.querySelector('#handover').textContent = `${age(committed).toFixed(1)} ms`
  }, 0))
}

function show(channel, event, position, took) {
  const name = channel === organization ? 'org' : channel.slice(organization.length + 1).replace(/(:.{8}).*/, '$1')
  const known = position && rows.get(position)
  if (known) {
    known.cells[2].textContent += `, ${name}`
    return
  }
  const row = events.insertRow(0)
  for (const text of [took === null ? '–' : `${took.toFixed(1)} ms`, event, name, position ?? '']) {
    row.insertCell().textContent = text
  }
  if (position) rows.set(position, row)
  while (events.rows.length > ROWS_MAX) events.deleteRow(-1)
  if (rows.size > ROWS_MAX) rows.delete(rows.keys().next().value)
  if (took === null) return
  latencies.push(took)
  if (latencies.length > PLOTTED) latencies.shift()
  requestAnimationFrame(plot)
}

function plot() {
  const sorted = [...latencies].sort((one, other) => one - other)
  const quantile = (share) => `${sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(1)} ms`
  document.querySelector('#p50').textContent = quantile(0.5)
  document.querySelector('#p99').textContent = quantile(0.99)
  const top = Math.max(20, sorted.at(-1))
  const points = latencies.map((took, index) => `${PLOTTED - latencies.length + index},${(39 - (took / top) * 38).toFixed(1)}`)
  document.querySelector('#plot polyline').setAttribute('points', points.join(' '))
}

listen(organization)
listen(`${organization}:conversations`, (state, error) => {
  const isLive = state === 'SUBSCRIBED'
  status.textContent = isLive ? 'live' : (error?.message ?? state.toLowerCase())
  status.classList.toggle('live', isLive)
})
