// A widget and a dashboard on the unmodified supabase-js: two clients, two tokens,
// the same channels. Neither sends a broadcast; both insert through the demo's
// server, and see their own message only when it comes back out of the WAL.

const session = await fetch('/demo/session').then((answer) => answer.json())
const { organization, conversation } = session
const name = (suffix = '') => `bcast:org:${organization}${suffix}`

/** A client that joins with a token of its own. */
async function connect(token) {
  const client = supabase.createClient(session.relay, session.api_key, {
    accessToken: async () => token,
  })
  // Before the first subscribe, or the first join goes out without the token.
  await client.realtime.setAuth()
  return client
}

/** Joins a channel, logs what comes, and says how the channel is. */
function listen(client, channelName, handlers, onStatus = () => {}) {
  const channel = client.channel(channelName, {
    config: { broadcast: { ack: false }, presence: { key: '' }, postgres_changes: [] },
  })
  channel.on('broadcast', { event: '*' }, ({ event, payload, meta }) => {
    logEvent(channelName, event, meta)
    handlers[event]?.(payload)
  })
  channel.subscribe((status, error) => onStatus(status, error))
  return channel
}

const events = document.querySelector('#events')

function logEvent(channelName, event, meta) {
  const latency = meta?.committed_at
    ? `${Math.max(0, performance.timeOrigin + performance.now() - Date.parse(meta.committed_at)).toFixed(1)} ms`
    : '–'
  const row = events.insertRow(0)
  for (const text of [latency, event, channelName.replace(/^bcast:/, '')]) {
    row.insertCell().textContent = text
  }
  while (events.rows.length > 200) events.deleteRow(-1)
}

/** A list of messages. Rows are keyed by id: one may come on several channels. */
class Thread {
  constructor(element, mine) {
    this.element = element
    this.mine = mine
    this.seen = new Set()
  }

  clear() {
    this.seen.clear()
    this.element.replaceChildren()
  }

  add(message) {
    if (this.seen.has(message.id)) return
    this.seen.add(message.id)
    const item = document.createElement('li')
    item.textContent = message.content
    item.className = message.sender_type
    item.classList.toggle('mine', message.sender_type === this.mine)
    this.element.append(item)
    this.element.scrollTop = this.element.scrollHeight
  }

  async load(url) {
    for (const message of await fetch(url).then((answer) => answer.json())) this.add(message)
  }
}

function onSend(form, url, extra = () => ({})) {
  form.addEventListener('submit', async (submit) => {
    submit.preventDefault()
    const content = form.elements.content.value
    form.reset()
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ content, ...extra() }),
    })
    if (!answer.ok) alert((await answer.json()).error)
  })
}

function showStatus(element, status, error) {
  const isLive = status === 'SUBSCRIBED'
  element.textContent = isLive ? 'live' : (error?.message ?? status.toLowerCase())
  element.classList.toggle('live', isLive)
}

// The widget ------------------------------------------------------------------

async function startWidget(root) {
  const thread = new Thread(root.querySelector('.thread'), 'visitor')
  const status = root.querySelector('[data-status]')
  onSend(root.querySelector('form'), '/demo/widget/messages')
  const client = await connect(session.visitor_token)
  listen(client, name(`:widget:${conversation}`), {
    'message:created': (message) => thread.add(message),
  }, async (state, error) => {
    showStatus(status, state, error)
    // After the join, so that nothing falls between the history and the stream.
    if (state === 'SUBSCRIBED') await thread.load('/demo/widget/messages')
  })
}

// The dashboard ---------------------------------------------------------------

async function startDashboard(root) {
  const thread = new Thread(root.querySelector('.thread'), 'agent')
  const status = root.querySelector('[data-status]')
  const list = root.querySelector('.conversations')
  const client = await connect(session.agent_token)
  let open = null
  let openChannel = null
  onSend(root.querySelector('form'), '/demo/dashboard/messages', () => ({ conversation: open }))

  const entry = (id) => list.querySelector(`[data-id="${id}"]`)

  function show({ id, customer_name }) {
    let button = entry(id)
    if (!button) {
      const item = document.createElement('li')
      button = document.createElement('button')
      button.dataset.id = id
      button.append(document.createElement('span'), document.createElement('small'))
      button.addEventListener('click', () => select(id))
      item.append(button)
      list.prepend(item)
    }
    if (customer_name) button.firstChild.textContent = customer_name
    return button
  }

  function announce({ conversation_id, content }) {
    const button = entry(conversation_id)
    if (!button) return
    button.lastChild.textContent = content
    button.classList.toggle('unread', conversation_id !== open)
    list.prepend(button.parentElement)
  }

  async function select(id) {
    if (open === id) return
    open = id
    for (const button of list.querySelectorAll('button')) {
      button.setAttribute('aria-current', button.dataset.id === id)
    }
    entry(id).classList.remove('unread')
    thread.clear()
    if (openChannel) client.removeChannel(openChannel)
    openChannel = listen(client, name(`:conv:${id}`), {
      'message:created': (message) => message.conversation_id === open && thread.add(message),
    }, (state) => {
      if (state === 'SUBSCRIBED') thread.load(`/demo/dashboard/messages?conversation=${id}`)
    })
  }

  listen(client, name(), {})
  listen(client, name(':conversations'), {
    'conversation:created': show,
    'conversation:updated': show,
    'conversation:deleted': ({ id }) => entry(id)?.parentElement.remove(),
    'message:created': announce,
  }, async (state, error) => {
    showStatus(status, state, error)
    if (state !== 'SUBSCRIBED') return
    const known = await fetch('/demo/dashboard/conversations').then((answer) => answer.json())
    known.reverse().forEach(show)
    await select(open ?? conversation)
  })
}

startWidget(document.querySelector('#widget'))
startDashboard(document.querySelector('#dashboard'))
