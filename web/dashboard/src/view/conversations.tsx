// The list: rows of one height, of which only those in sight are on the page.
import { useEffect, useLayoutEffect, useReducer, useRef } from 'preact/hooks'
import type { Filter, Row } from '../conversation_list.js'
import type { Desk } from '../desk.js'
import { PRIORITIES, STATUSES } from '../rows.js'
import { ago, fullTime, nameOf } from '../text.js'
import { Avatar, capitalized, type Choice, Icon, Select } from './parts.js'

/** As in style.css. */
const ROW_HEIGHT = 76
/** Rows beyond each edge. */
const MARGIN = 6
/** So many rows before the end the next page is asked for. */
const AHEAD = 30
const SEARCH_DELAY_MS = 250

const any = (label: string): Choice => ({ value: '', label })
const STATUS_CHOICES = [any('Any status'), ...STATUSES.map((value) => ({ value, label: capitalized(value) }))]
const PRIORITY_CHOICES = [any('Any priority'), ...PRIORITIES.map((value) => ({ value, label: capitalized(value) }))]
const ASSIGNEE_CHOICES = [any('Anybody’s'), { value: 'me', label: 'Mine' }, { value: 'none', label: 'Nobody’s' }]

export function Conversations({ desk, now, onOpen }: { desk: Desk; now: number; onOpen: (id: string) => void }) {
  const { filter } = desk.list
  const choose = (name: keyof Filter) => (value: string) => desk.filterBy({ [name]: value || null } as Partial<Filter>)
  return (
    <nav class="conversations" aria-label="Conversations">
      <Search desk={desk} />
      <div class="filters">
        <Select isQuiet label="Status" value={filter.status ?? ''} choices={STATUS_CHOICES} onChoose={choose('status')} />
        <Select
          isQuiet label="Priority" value={filter.priority ?? ''} choices={PRIORITY_CHOICES} onChoose={choose('priority')}
        />
        <Select
          isQuiet label="Assignee" value={filter.assignee ?? ''} choices={ASSIGNEE_CHOICES} onChoose={choose('assignee')}
        />
      </div>
      <Rows desk={desk} now={now} onOpen={onOpen} />
    </nav>
  )
}

function Search({ desk }: { desk: Desk }) {
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    // As in many applications.
    const focus = (event: KeyboardEvent) => {
      const isWriting = (event.target as Element | null)?.closest?.('input, textarea, select')
      if (event.key !== '/' || isWriting || event.ctrlKey || event.metaKey || event.altKey) return
      event.preventDefault()
      field.current?.focus()
    }
    document.addEventListener('keydown', focus)
    return () => document.removeEventListener('keydown', focus)
  }, [])
  const search = (text: string) => {
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      const wanted = text.trim()
      if (wanted !== desk.list.filter.search) desk.filterBy({ search: wanted })
    }, SEARCH_DELAY_MS)
  }
  return (
    <label class="search">
      <Icon name="search" />
      <span class="unseen">Search by name or email</span>
      <input
        ref={field} type="search" placeholder="Name or email" maxLength={255} autocomplete="off"
        aria-keyshortcuts="/"
        onInput={({ currentTarget }) => search(currentTarget.value)}
      />
    </label>
  )
}

function Rows({ desk, now, onOpen }: { desk: Desk; now: number; onOpen: (id: string) => void }) {
  const box = useRef<HTMLDivElement>(null)
  const [, again] = useReducer((count: number, _: void) => count + 1, 0)
  /** The row at the upper edge, and how much of it is above: it stays there, whatever moves past it. */
  const anchor = useRef<{ id: string; above: number } | null>(null)
  /** The row that the keys are on. */
  const active = useRef<string | null>(null)
  const { list } = desk
  const rows = list.order
  const openId = desk.thread?.conversation ?? null

  const height = box.current?.clientHeight ?? 800
  const held = anchor.current ? list.indexOf(anchor.current.id) : -1
  const top = held >= 0 ? held * ROW_HEIGHT + anchor.current!.above : (box.current?.scrollTop ?? 0)
  const first = Math.max(0, Math.floor(top / ROW_HEIGHT) - MARGIN)
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW_HEIGHT) + MARGIN)

  useLayoutEffect(() => {
    const element = box.current
    if (!element) return
    if (held >= 0 && Math.abs(element.scrollTop - top) >= 1) element.scrollTop = top
    if (last + AHEAD >= rows.length) void desk.loadMore()
  })
  useEffect(() => {
    const observer = new ResizeObserver(() => again())
    observer.observe(box.current!)
    return () => observer.disconnect()
  }, [])

  const scrolled = () => {
    const { scrollTop } = box.current!
    const row = rows[Math.floor(scrollTop / ROW_HEIGHT)]
    // At the very top what is new is to be seen.
    anchor.current = scrollTop > 0 && row ? { id: row.id, above: scrollTop % ROW_HEIGHT } : null
    again()
  }

  const moveTo = (index: number) => {
    const row = rows[Math.max(0, Math.min(index, rows.length - 1))]
    if (!row) return
    active.current = row.id
    const place = list.indexOf(row.id) * ROW_HEIGHT
    const element = box.current!
    if (place < element.scrollTop) element.scrollTop = place
    else if (place + ROW_HEIGHT > element.scrollTop + element.clientHeight) {
      element.scrollTop = place + ROW_HEIGHT - element.clientHeight
    }
    again()
  }

  const pressed = (event: KeyboardEvent) => {
    const at = active.current ? list.indexOf(active.current) : -1
    const page = Math.max(1, Math.floor(box.current!.clientHeight / ROW_HEIGHT) - 1)
    const moves: Record<string, number> = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1,
    }
    const move = moves[event.key]
    if (move !== undefined) moveTo(move)
    else if ((event.key === 'Enter' || event.key === ' ') && active.current) onOpen(active.current)
    else return
    event.preventDefault()
  }

  const shown = rows.slice(first, last)
  const isActiveShown = shown.some(({ id }) => id === active.current)
  return (
    <>
      <div
        class="rows" ref={box} role="listbox" tabIndex={0} aria-label="Conversations, latest first"
        aria-activedescendant={isActiveShown ? `row-${active.current}` : undefined}
        aria-busy={desk.isListLoading}
        onScroll={scrolled} onKeyDown={pressed}
        onFocus={() => {
          if (active.current === null || list.indexOf(active.current) < 0) active.current = openId ?? rows[0]?.id ?? null
          again()
        }}
      >
        <div class="height" role="presentation" style={{ height: `${rows.length * ROW_HEIGHT}px` }}>
          {shown.map((row, index) => (
            <ConversationRow
              key={row.id} row={row} now={now} place={first + index} count={list.cursor === null ? rows.length : -1}
              isOpen={row.id === openId} isActive={row.id === active.current}
              assignee={row.assignee_id ? desk.nameOf(row.assignee_id) : null}
              onOpen={() => {
                active.current = row.id
                onOpen(row.id)
              }}
            />
          ))}
        </div>
      </div>
      {rows.length === 0 && (
        <p class="empty" role="status">
          {desk.isListLoading ? 'Loading…' : desk.isFiltered ? 'No conversation matches.' : 'No conversations yet.'}
        </p>
      )}
    </>
  )
}

const AUTHORS = { visitor: '', agent: 'Agent: ', ai: 'AI: ', system: '' }

function ConversationRow({ row, now, place, count, isOpen, isActive, assignee, onOpen }: {
  row: Row
  now: number
  place: number
  count: number
  isOpen: boolean
  isActive: boolean
  assignee: string | null
  onOpen: () => void
}) {
  const name = nameOf(row)
  const isUnread = row.unread > 0
  const isUrgent = row.priority === 'urgent' || row.priority === 'high'
  const message = row.last_message
  return (
    <div
      id={`row-${row.id}`} role="option" aria-selected={isOpen} aria-setsize={count} aria-posinset={place + 1}
      class={`row${isOpen ? ' open' : ''}${isActive ? ' active' : ''}${isUnread ? ' unread' : ''}`}
      style={{ transform: `translateY(${place * ROW_HEIGHT}px)` }} data-id={row.id}
      onClick={onOpen}
    >
      <Avatar id={row.id} name={name} />
      <div class="what">
        <div class="line">
          <span class="name">{name}</span>
          {row.verified && <span class="verified" title="Verified identity"><Icon name="check" /><span class="unseen">verified</span></span>}
          <time dateTime={row.updated_at} title={fullTime(row.updated_at)}>{ago(row.updated_at, now)}</time>
        </div>
        <div class="line">
          <span class="preview">{message ? AUTHORS[message.sender_type] + message.content : 'No messages yet'}</span>
          {isUnread && (
            <span class="badge">
              <span aria-hidden="true">{row.unread > 99 ? '99+' : row.unread}</span>
              <span class="unseen">{row.unread} unread</span>
            </span>
          )}
        </div>
        <div class="line chips">
          {row.status !== 'open' && <span class={`chip ${row.status}`}>{row.status}</span>}
          {isUrgent && <span class={`chip ${row.priority}`}>{row.priority}</span>}
          {assignee && <span class="assignee">{assignee}</span>}
        </div>
      </div>
    </div>
  )
}
