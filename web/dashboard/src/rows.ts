// Rows as the API answers them and as events carry them: the columns of the tables, under their names.

export const STATUSES = ['open', 'pending', 'resolved', 'closed'] as const
export const PRIORITIES = ['urgent', 'high', 'normal', 'low'] as const

export type ConversationStatus = (typeof STATUSES)[number]
export type Priority = (typeof PRIORITIES)[number]

export interface Conversation {
  id: string
  organization_id: string
  customer_name: string | null
  customer_email: string | null
  status: ConversationStatus
  priority: Priority
  assignee_id: string | null
  created_at: string
  updated_at: string
}

/** The newest message of a conversation, cut to what a list shows. */
export interface LastMessage {
  id: string
  content: string
  sender_type: SenderType
  created_at: string
}

export interface ListedConversation extends Conversation {
  unread: number
  verified: boolean
  last_message: LastMessage | null
}

export type SenderType = 'visitor' | 'agent' | 'ai' | 'system'

export interface Message {
  id: string
  conversation_id: string
  organization_id: string
  content: string
  sender_type: SenderType
  sender_name: string | null
  sender_email?: string | null
  created_at: string
}

export interface Receipt {
  conversation_id: string
  reader_type: 'visitor' | 'agent'
  reader_id?: string
  last_read_message_id: string | null
  read_at: string
}

/** What this agent has not read of a conversation, and how far it has. */
export interface Unread {
  conversation_id: string
  unread: number
  last_read_message_id: string | null
  read_at: string | null
}

export interface Agent {
  user_id: string
  display_name: string | null
  active: boolean
}

export interface Me {
  organization: { id: string; name: string }
  agent: { user_id: string; display_name: string | null; email: string | null } | null
  agents: Agent[]
  /** With which sockets connect; null if the relay has none to give out. */
  apiKey: string | null
  channels: { organization: string; conversations: string }
}

/** What counts as unread to an agent. */
export const isForAgents = (sender: SenderType): boolean => sender === 'visitor' || sender === 'ai'

/** Times are RFC 3339 in UTC with six digits, so that they sort as text. */
export function isOlder(
  one: { created_at: string; id: string },
  other: { created_at: string; id: string },
): boolean {
  return one.created_at === other.created_at ? one.id < other.id : one.created_at < other.created_at
}
