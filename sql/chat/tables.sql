-- The chat tables. The functions of this file, of triggers.sql and of rights.sql run inside campfire.install(), with
-- search_path set to the schema that is being installed: names without a schema are the tables of that schema.

create function campfire.install_tables() returns void
language plpgsql as $$
begin
  create type conversation_status as enum ('open', 'pending', 'resolved', 'closed');
  comment on type conversation_status is 'campfire: the status of a conversation.';
  create type conversation_priority as enum ('low', 'normal', 'high', 'urgent');
  comment on type conversation_priority is 'campfire: the priority of a conversation.';

  create table organizations (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    widget_enabled boolean not null default true,
    allowed_origins text[] not null default '{}',
    require_identity boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  );
  comment on table organizations is 'campfire: the tenants. An organization that has conversations cannot be deleted.';
  comment on column organizations.require_identity is
    'campfire: whether the widget is for verified identities alone.';

  create table organization_secrets (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null references organizations (id) on delete cascade,
    secret text not null check (octet_length(secret) between 32 and 1024),
    valid_from timestamptz not null default now(),
    valid_until timestamptz
  );
  comment on table organization_secrets is
    'campfire: with what an organization''s own server signs the identities of its customers. While secrets are replaced, two are valid.';
  create index organization_secrets_by_organization on organization_secrets (organization_id);
  comment on index organization_secrets_by_organization is 'campfire: an organization''s secrets.';

  create table agents (
    organization_id uuid not null references organizations (id) on delete cascade,
    user_id uuid not null,
    display_name text not null,
    email text,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (organization_id, user_id)
  );
  comment on table agents is
    'campfire: users who may act for an organization. user_id is the sub of the agent''s token; an inactive agent sees nothing.';

  create table visitors (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null references organizations (id) on delete cascade,
    external_id text not null,
    name text,
    email text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (organization_id, external_id),
    -- What conversations refer to.
    unique (organization_id, id)
  );
  comment on table visitors is
    'campfire: customers whose identity was verified. external_id is how the organization''s own server calls one.';

  create table conversations (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null references organizations (id) on delete restrict,
    customer_name text,
    customer_email text,
    customer_ip inet,
    status conversation_status not null default 'open',
    priority conversation_priority not null default 'normal',
    assignee_id uuid,
    visitor_id uuid,
    assignment_metadata jsonb not null default '{}',
    customer jsonb not null default '{}',
    metadata jsonb not null default '{}',
    ai_metadata jsonb not null default '{}',
    tags text[] not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- What messages and receipts refer to, so that none can name one organization and another's conversation.
    unique (organization_id, id),
    foreign key (organization_id, assignee_id) references agents (organization_id, user_id)
      on update cascade on delete set null (assignee_id),
    foreign key (organization_id, visitor_id) references visitors (organization_id, id)
      on update cascade on delete set null (visitor_id)
  );
  comment on table conversations is 'campfire: conversations of customers with an organization. Its scalar mirror is realtime_conversations.';
  create index conversations_by_update on conversations (organization_id, updated_at desc, id);
  comment on index conversations_by_update is 'campfire: an organization''s conversations, latest first.';
  -- By predicate, not by column: row-level security keeps comparisons of enums out of index conditions.
  create index conversations_unresolved on conversations (organization_id, updated_at desc, id) where status in ('open', 'pending');
  comment on index conversations_unresolved is 'campfire: an organization''s open and pending conversations, latest first.';
  create index conversations_by_assignee on conversations (organization_id, assignee_id, updated_at desc, id) where assignee_id is not null;
  comment on index conversations_by_assignee is 'campfire: an agent''s conversations, latest first.';
  create index conversations_by_visitor on conversations (organization_id, visitor_id) where visitor_id is not null;
  comment on index conversations_by_visitor is 'campfire: a verified customer''s conversations.';
  comment on column conversations.visitor_id is
    'campfire: the verified customer to whom the conversation belongs; null if nobody has proven to be one. Written by the relay.';

  create table messages (
    id uuid primary key default gen_random_uuid(),
    conversation_id uuid not null,
    organization_id uuid not null,
    content text not null,
    sender_type text not null check (sender_type in ('visitor', 'agent', 'ai', 'system')),
    sender_name text,
    sender_email text,
    metadata jsonb not null default '{}',
    attachments jsonb not null default '[]',
    created_at timestamptz not null default now(),
    client_key uuid,
    foreign key (organization_id, conversation_id) references conversations (organization_id, id)
      on update cascade on delete cascade
  );
  comment on table messages is 'campfire: messages of conversations. Inserting one raises updated_at of its conversation.';
  comment on column messages.client_key is
    'campfire: chosen by the sender, so that an insert can be repeated: the id is then campfire.message_id(conversation_id, client_key). '
    'Not published.';
  create unique index messages_replica_identity on messages (id, conversation_id, organization_id);
  comment on index messages_replica_identity is 'campfire: the replica identity, so that the channels of a deleted message are known.';
  alter table messages replica identity using index messages_replica_identity;
  create index messages_by_conversation on messages (conversation_id, created_at, id);
  comment on index messages_by_conversation is 'campfire: a conversation''s messages in order.';
  create index messages_for_agents on messages (conversation_id, created_at, id) include (organization_id)
    where sender_type in ('visitor', 'ai');
  comment on index messages_for_agents is 'campfire: what agents have to read, for counting what they have not.';

  create table read_receipts (
    conversation_id uuid not null,
    organization_id uuid not null,
    reader_type text not null check (reader_type in ('visitor', 'agent')),
    reader_id uuid not null,
    -- No foreign key: it is a bookmark, and may outlive the message.
    last_read_message_id uuid,
    read_at timestamptz not null default now(),
    primary key (conversation_id, reader_id),
    foreign key (organization_id, conversation_id) references conversations (organization_id, id)
      on update cascade on delete cascade
  );
  comment on table read_receipts is
    'campfire: how far each reader has read. reader_id is the conversation''s id for a visitor, the user id for an agent.';
  alter table read_receipts replica identity full;
end
$$;
comment on function campfire.install_tables() is 'Internal. The chat tables, made by campfire.install().';
