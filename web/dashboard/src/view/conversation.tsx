// The open conversation: its messages, the reply, and what is known of it.
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { ConversationChange } from '../api.js'
import type { Desk } from '../desk.js'
import { PRIORITIES, STATUSES } from '../rows.js'
import type { Thread } from '../thread.js'
import { fullTime, nameOf } from '../text.js'
import { Messages } from './messages.js'
import { Avatar, capitalized, Icon, Select } from './parts.js'

export function Conversation({ desk, thread, now, isDetailed, onDetails, onBack, onChange }: {
  desk: Desk
  thread: Thread
  now: number
  isDetailed: boolean
  onDetails: () => void
  onBack: () => void
  onChange: () => void
}) {
  const { row } = desk
  const name = nameOf(row)
  return (
    <>
      <section class="conversation" aria-label={`Conversation with ${name}`}>
        <header class="bar">
          <button type="button" class="plain back" aria-label="Back to the list" onClick={onBack}><Icon name="back" /></button>
          <Avatar id={thread.conversation} name={name} isOnline={desk.isVisitorThere === true} />
          <div class="title">
            <h2>{name}{row?.verified && <span class="verified" title="Verified identity"><Icon name="check" /></span>}</h2>
            <p>
              <span class="whereabouts" role="status">
                {desk.isVisitorThere === null ? '' : desk.isVisitorThere ? 'Online' : 'Offline'}
              </span>
              {row?.customer_email ?? (row && !row.verified ? 'Identity not verified' : '')}
            </p>
          </div>
          <Viewers desk={desk} />
          <button
            type="button" class="plain" aria-label="Details" aria-expanded={isDetailed} aria-controls="details"
            onClick={onDetails}
          >
            <Icon name="details" />
          </button>
        </header>
        {desk.threadError
          ? <p class="empty" role="alert">{desk.threadError}</p>
          : (
            <>
              <div class="scroll">
                <Messages key={thread.conversation} desk={desk} thread={thread} now={now} onChange={onChange} />
                {!thread.follows && (
                  <button
                    type="button" class="to-end"
                    onClick={() => {
                      thread.showNewest()
                      onChange()
                    }}
                  >
                    <Icon name="down" /> {row && row.unread > 0 ? `${row.unread} new` : 'Latest'}
                  </button>
                )}
              </div>
              <Typing desk={desk} />
              <Reply key={`reply-${thread.conversation}`} desk={desk} thread={thread} />
            </>
          )}
      </section>
      {isDetailed && row && <Details desk={desk} onClose={onDetails} />}
    </>
  )
}

/** Other agents who have it open. */
function Viewers({ desk }: { desk: Desk }) {
  const others = [...desk.viewers].filter((id) => id !== desk.me.agent?.user_id)
  if (others.length === 0) return null
  const names = others.map((id) => desk.nameOf(id)).join(', ')
  return (
    <div class="viewers" role="status" title={`${names} also viewing`}>
      <Icon name="eye" />
      {others.slice(0, 4).map((id) => <Avatar key={id} id={id} name={desk.nameOf(id)} />)}
      <span class="unseen">Also viewing: {names}</span>
    </div>
  )
}

function Typing({ desk }: { desk: Desk }) {
  const names = [...desk.typing.values()].map(({ type, id }) => (type === 'visitor' ? nameOf(desk.row) : desk.nameOf(id)))
  return (
    <p class="typing" role="status">
      {names.length > 0 && (
        <>
          <span class="dots" aria-hidden="true"><i /><i /><i /></span>
          <span dir="auto">{names.join(', ')} {names.length === 1 ? 'is' : 'are'} typing…</span>
        </>
      )}
    </p>
  )
}

function Reply({ desk, thread }: { desk: Desk; thread: Thread }) {
  const field = useRef<HTMLTextAreaElement>(null)
  const fit = () => {
    const element = field.current!
    element.style.height = 'auto'
    element.style.height = `${element.scrollHeight}px`
  }
  useLayoutEffect(() => {
    field.current!.value = desk.drafts.get(thread.conversation) ?? ''
    fit()
    return () => desk.typeInto(false)
  }, [])
  useEffect(() => {
    // On a phone the keyboard would cover what was just opened.
    if (matchMedia('(hover: hover)').matches) field.current!.focus()
  }, [])
  const send = () => {
    const { value } = field.current!
    if (!value.trim()) return
    desk.send(value)
    field.current!.value = ''
    desk.drafts.delete(thread.conversation)
    fit()
  }
  return (
    <form
      class="reply"
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      <textarea
        ref={field} rows={1} aria-label="Reply" placeholder="Write a reply…" dir="auto"
        onInput={({ currentTarget }) => {
          desk.drafts.set(thread.conversation, currentTarget.value)
          desk.typeInto(currentTarget.value.trim() !== '')
          fit()
        }}
        onBlur={() => desk.typeInto(false)}
        onKeyDown={(event) => {
          // While an input method composes, Enter chooses a word.
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
          event.preventDefault()
          send()
        }}
      />
      <button class="primary" aria-label="Send"><Icon name="send" /></button>
    </form>
  )
}

function Details({ desk, onClose }: { desk: Desk; onClose: () => void }) {
  const row = { ...desk.row!, ...desk.changing }
  const me = desk.me.agent?.user_id ?? null
  const change = (wanted: ConversationChange) => void desk.change(wanted)
  const agents = [...desk.agents.values()].filter(({ active, user_id }) => active || user_id === row.assignee_id)
  const read = desk.thread?.visitorRead
  return (
    <section class="details" id="details" aria-label="Details">
      <header class="bar">
        <h2>Details</h2>
        <button type="button" class="plain" aria-label="Close details" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div class="body">
        <Select
          label="Assignee" value={row.assignee_id ?? ''}
          choices={[
            { value: '', label: 'Nobody' },
            ...agents.map(({ user_id, display_name }) => ({
              value: user_id, label: `${display_name ?? user_id}${user_id === me ? ' (you)' : ''}`,
            })),
          ]}
          onChoose={(id) => change({ assignee_id: id || null })}
        />
        {me && row.assignee_id !== me && (
          <button type="button" class="secondary" onClick={() => change({ assignee_id: me })}>Assign to me</button>
        )}
        <Select
          label="Status" value={row.status}
          choices={STATUSES.map((value) => ({ value, label: capitalized(value) }))}
          onChoose={(status) => change({ status: status as (typeof STATUSES)[number] })}
        />
        <Select
          label="Priority" value={row.priority}
          choices={PRIORITIES.map((value) => ({ value, label: capitalized(value) }))}
          onChoose={(priority) => change({ priority: priority as (typeof PRIORITIES)[number] })}
        />
        <hr />
        <Field key={`name-${row.id}`} label="Name" inputMode="text" value={row.customer_name} onSave={(customer_name) => change({ customer_name })} />
        <Field
          key={`email-${row.id}`} label="Email" inputMode="email" value={row.customer_email}
          onSave={(customer_email) => change({ customer_email })}
        />
        <dl>
          <dt>Identity</dt>
          <dd>{row.verified ? 'Verified' : 'Not verified'}</dd>
          <dt>Started</dt>
          <dd>{fullTime(row.created_at)}</dd>
          <dt>Last read by the visitor</dt>
          <dd>{read ? fullTime(read.read_at) : 'Not yet'}</dd>
        </dl>
      </div>
    </section>
  )
}

/** Saved when it is left, or by Enter. */
function Field({ label, inputMode, value, onSave }: {
  label: string
  inputMode: 'text' | 'email'
  value: string | null
  onSave: (value: string | null) => void
}) {
  const field = useRef<HTMLInputElement>(null)
  useLayoutEffect(() => {
    // What somebody else wrote shows, unless it is being edited here.
    if (document.activeElement !== field.current) field.current!.value = value ?? ''
  }, [value])
  const save = () => {
    const wanted = field.current!.value.trim() || null
    if (wanted !== (value ?? null)) onSave(wanted)
  }
  return (
    <label class="field">
      <span>{label}</span>
      <input
        ref={field} inputMode={inputMode} maxLength={200} autocomplete="off" onBlur={save}
        onKeyDown={(event) => {
          if (event.key === 'Enter') save()
        }}
      />
    </label>
  )
}
