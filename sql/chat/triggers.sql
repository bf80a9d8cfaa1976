-- The standard mirror, and the triggers that keep it and the conversations' updated_at.

create function campfire.install_triggers() returns void
language plpgsql as $$
begin
  create table realtime_conversations (
    id uuid primary key,
    organization_id uuid not null,
    customer_name text,
    customer_email text,
    status text not null,
    priority text not null,
    assignee_id uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null
  );
  comment on table realtime_conversations is
    'campfire: scalar mirror of conversations, written by a trigger and published without a column list. Never write to it.';
  create index realtime_conversations_by_organization on realtime_conversations (organization_id);
  comment on index realtime_conversations_by_organization is 'campfire: for the row-level security policies.';
  -- So that deletes and moves to another organization can be routed, and unchanged values are known.
  alter table realtime_conversations replica identity full;

  perform campfire.attach_projection('conversations'::regclass, 'realtime_conversations'::regclass, '{id}',
    '{id,organization_id,customer_name,customer_email,status,priority,assignee_id,created_at,updated_at}', null);

  create trigger mint_message_id_trigger
    before insert on messages
    for each row when (new.client_key is not null) execute function campfire.mint_message_id();
  comment on trigger mint_message_id_trigger on messages is
    'campfire: derives the id of a message from its client_key, and skips a row that already exists.';
  create trigger touch_conversations_trigger
    after insert on messages referencing new table as inserted
    for each statement execute function campfire.touch_conversations();
  comment on trigger touch_conversations_trigger on messages is
    'campfire: raises updated_at of the conversations that got a message.';
  create trigger keep_updated_at_trigger
    before update of updated_at on conversations
    for each row when (new.updated_at < old.updated_at) execute function campfire.keep_updated_at();
  comment on trigger keep_updated_at_trigger on conversations is
    'campfire: keeps updated_at from going back.';
  create trigger keep_read_receipt_trigger
    before update of last_read_message_id, read_at on read_receipts
    for each row when (new.last_read_message_id is distinct from old.last_read_message_id or new.read_at < old.read_at)
    execute function campfire.keep_read_receipt();
  comment on trigger keep_read_receipt_trigger on read_receipts is
    'campfire: keeps a receipt from going back to an older message.';
end
$$;
comment on function campfire.install_triggers() is 'Internal. The standard mirror and the triggers, made by campfire.install().';

create function campfire.keep_updated_at() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  new.updated_at := old.updated_at;
  return new;
end
$$;
comment on function campfire.keep_updated_at() is 'Trigger: keeps the old updated_at if an update would set it back.';

create function campfire.keep_read_receipt() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  messages constant regclass := to_regclass(format('%I.messages', tg_table_schema));
  goes_back boolean := false;
begin
  new.read_at := greatest(new.read_at, old.read_at);
  -- The row is locked by now, so old is what the last of several devices has written. Messages are looked up with the
  -- rights of the reader.
  if messages is not null and new.last_read_message_id is distinct from old.last_read_message_id then
    execute format(
      'select (coalesce(n.created_at, $1), coalesce(n.id, $2)) < (coalesce(o.created_at, $3), coalesce(o.id, $2))
       from (select) as one
       left join %1$s as n on n.id = $4 and n.conversation_id = $6
       left join %1$s as o on o.id = $5 and o.conversation_id = $6', messages)
    into goes_back
    using new.read_at, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid, old.read_at,
      new.last_read_message_id, old.last_read_message_id, new.conversation_id;
  end if;
  return case when not goes_back then new end;
end
$$;
comment on function campfire.keep_read_receipt() is
  'Trigger before update on read_receipts: skips a row that would go back to an older message, in the order of (created_at, id): UPDATE 0, '
  'nothing returned, no event. A receipt whose message does not exist, or no longer, stands at its read_at. read_at never goes back.';

comment on function campfire.message_id(uuid, uuid) is
  'Id of the message with this client_key in this conversation: the UUIDv5 of the key, as text in lower case, in the namespace of the '
  'conversation''s id. Libraries compute the same: uuidv5(client_key, conversation_id). Null if an argument is null. Example: select '
  'campfire.message_id(''11111111-1111-4111-8111-111111111111'', ''22222222-2222-4222-8222-222222222222'');';

create function campfire.mint_message_id() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  is_there boolean := false;
begin
  if new.conversation_id is null then
    return new; -- refused by the column
  end if;
  new.id := campfire.message_id(new.conversation_id, new.client_key);
  -- With the rights of the sender: a row that a policy hides is treated as if it were not there, so this tells nothing.
  if has_column_privilege(tg_relid, 'id', 'select') then
    execute format('select exists (select from %s as m where m.id = $1)', tg_relid::regclass) into is_there using new.id;
  end if;
  return case when not is_there then new end;
end
$$;
comment on function campfire.mint_message_id() is
  'Trigger before insert on messages, for each row with a client_key: sets id to campfire.message_id(conversation_id, client_key), '
  'whatever id was given. If the sender can already see a row with that id, the new one is skipped: INSERT 0 0, nothing returned, no '
  'event.';

comment on function campfire.touch_conversations() is
  'Trigger after insert on messages, for each statement, with the new rows as "inserted": raises updated_at of their conversations in the '
  'same schema, in the order of ids, to the newest created_at but never beyond the clock, as the owner of messages. Raises 55000 if it is '
  'attached in another way, 42P01 if there is no table conversations.';
