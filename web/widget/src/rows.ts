// Rows as the API answers them and as events carry them: the same columns in both (docs/events.md).

export interface MessageRow {
  id: string
  conversation_id: string
  organization_id: string
  content: string
  sender_type: 'visitor' | 'agent' | 'ai' | 'system'
  sender_name: string | null
  created_at: string
}

export interface ReceiptRow {
  conversation_id: string
  reader_type: 'visitor' | 'agent'
  last_read_message_id: string
  read_at: string
}

export interface ConversationRow {
  id: string
  organization_id: string
  status: string
  updated_at: string
}
