-- Grants and row-level security of the chat tables. Row-level security is not forced: the owner's pg_dump must see
-- every row. Supabase's default privileges would give everything to everyone, so all is revoked first.

create function campfire.install_rights() returns void
language plpgsql as $$
begin
  grant usage on type conversation_status, conversation_priority to anon, authenticated, service_role, campfire_relay;
  revoke all on table organizations, organization_secrets, agents, visitors, conversations, messages, realtime_conversations, read_receipts
    from public, anon, authenticated, service_role, campfire_relay;

  alter table organizations enable row level security;
  alter table organization_secrets enable row level security;
  alter table agents enable row level security;
  alter table visitors enable row level security;
  alter table conversations enable row level security;
  alter table messages enable row level security;
  alter table realtime_conversations enable row level security;
  alter table read_receipts enable row level security;

  -- Visitors: their own conversation, in columns that are meant for them. created_at is the database's.
  grant select (id, organization_id, customer_name, customer_email, status, created_at, updated_at),
        insert (id, organization_id, customer_name, customer_email, customer_ip, customer, metadata)
    on conversations to anon;
  -- The id is the database's too: it is unique among all organizations, and one that is taken would tell of another's.
  -- client_key is the sender's, and makes an id that only this conversation can have.
  grant select (id, conversation_id, organization_id, content, sender_type, sender_name, created_at),
        insert (conversation_id, organization_id, content, sender_type, sender_name, sender_email, client_key)
    on messages to anon;
  grant select (id, organization_id, status, updated_at) on realtime_conversations to anon;
  -- Not reader_id: a visitor sees no agent's id.
  grant select (conversation_id, organization_id, reader_type, last_read_message_id, read_at),
        insert (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at),
        update (last_read_message_id, read_at)
    on read_receipts to anon;

  create policy conversations_visitor_select on conversations for select to anon using (
    organization_id = (select campfire.claim_organization()) and id = (select campfire.claim_conversation()));
  create policy conversations_visitor_insert on conversations for insert to anon with check (
    organization_id = (select campfire.claim_organization()) and id = (select campfire.claim_conversation()));
  create policy messages_visitor_select on messages for select to anon using (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation()));
  create policy messages_visitor_insert on messages for insert to anon with check (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation())
    and sender_type = 'visitor');
  create policy realtime_conv_select_visitor on realtime_conversations for select to anon using (
    organization_id = (select campfire.claim_organization()) and id = (select campfire.claim_conversation()));
  create policy read_receipts_visitor_select on read_receipts for select to anon using (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation()));
  create policy read_receipts_visitor_insert on read_receipts for insert to anon with check (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation())
    and reader_type = 'visitor' and reader_id = (select campfire.claim_conversation()));
  create policy read_receipts_visitor_update on read_receipts for update to anon using (
    organization_id = (select campfire.claim_organization()) and conversation_id = (select campfire.claim_conversation())
    and reader_type = 'visitor' and reader_id = (select campfire.claim_conversation()));

  -- Agents: their organization, as long as they are active there.
  grant select on organizations, agents, visitors, conversations, messages, realtime_conversations, read_receipts to authenticated;
  grant update (customer_name, customer_email, status, priority, assignee_id, assignment_metadata, customer, metadata,
      ai_metadata, tags, updated_at)
    on conversations to authenticated;
  grant insert (conversation_id, organization_id, content, sender_type, sender_name, sender_email, metadata, attachments,
      client_key)
    on messages to authenticated;
  grant insert (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at),
        update (last_read_message_id, read_at)
    on read_receipts to authenticated;

  create policy organizations_agent_select on organizations for select to authenticated using (
    id = (select campfire.agent_organization('agents'::regclass)));
  create policy agents_agent_select on agents for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy visitors_agent_select on visitors for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy conversations_agent_select on conversations for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy conversations_agent_update on conversations for update to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy messages_agent_select on messages for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy messages_agent_insert on messages for insert to authenticated with check (
    organization_id = (select campfire.agent_organization('agents'::regclass)) and sender_type = 'agent');
  create policy realtime_conv_select on realtime_conversations for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy read_receipts_agent_select on read_receipts for select to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass)));
  create policy read_receipts_agent_insert on read_receipts for insert to authenticated with check (
    organization_id = (select campfire.agent_organization('agents'::regclass))
    and reader_type = 'agent' and reader_id = (select campfire.claim_subject()));
  create policy read_receipts_agent_update on read_receipts for update to authenticated using (
    organization_id = (select campfire.agent_organization('agents'::regclass))
    and reader_type = 'agent' and reader_id = (select campfire.claim_subject()));

  -- The mirror is written by its owner alone, through the trigger. Even a grant by mistake opens nothing.
  create policy realtime_conv_insert on realtime_conversations for insert with check (false);
  create policy realtime_conv_update on realtime_conversations for update using (false);

  -- Server code.
  grant select, insert, update, delete on organizations, agents, visitors, conversations, messages, read_receipts to service_role;
  grant select on realtime_conversations to service_role;
  -- It may replace secrets, and reads none.
  grant select (id, organization_id, valid_from, valid_until),
        insert (organization_id, secret, valid_from, valid_until),
        update (valid_from, valid_until),
        delete
    on organization_secrets to service_role;
  create policy organizations_service on organizations to service_role using (true);
  create policy organization_secrets_service on organization_secrets to service_role using (true);
  create policy agents_service on agents to service_role using (true);
  create policy visitors_service on visitors to service_role using (true);
  create policy conversations_service on conversations to service_role using (true);
  create policy messages_service on messages to service_role using (true);
  create policy realtime_conv_select_service on realtime_conversations for select to service_role using (true);
  create policy read_receipts_service on read_receipts to service_role using (true);

  -- The relay itself: who is an agent, and whether active; and the secrets by which it verifies identities. What else it
  -- reads and writes for the widget it may as a member of service_role: the organization, and to whom a conversation
  -- belongs. A function that worked as the owner could keep nothing from it.
  grant select (organization_id, user_id, display_name, active) on agents to campfire_relay;
  grant select (organization_id, secret, valid_from, valid_until) on organization_secrets to campfire_relay;
  create policy organization_secrets_relay_select on organization_secrets for select to campfire_relay using (true);
  create policy agents_relay_select on agents for select to campfire_relay using (true);
end
$$;
comment on function campfire.install_rights() is 'Internal. Grants and policies of the chat tables, made by campfire.install().';

-- What builds statements, or compares other types than the policies do: not by the search_path of the others, on which
-- whoever owns the schema may have put a function or an operator that fits better.
create function campfire.install_on_schema(schema name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made record;
begin
  execute format('grant usage on schema %I to anon, authenticated, service_role, campfire_relay', schema);
  for made in
    select p.polname, p.polrelid::regclass as relation, case p.polroles[1]
        when 'anon'::regrole then 'a visitor, in the conversation of the claims'
        when 'authenticated'::regrole then 'an active agent, in the organization of the claims'
        when 'service_role'::regrole then 'server code, everywhere'
        when 'campfire_relay'::regrole then 'the relay, which admits agents or verifies identities by this table'
        else 'nobody: the mirror is written by the trigger, as its owner'
      end as purpose
    from pg_policy as p
    where p.polrelid = any (array(
      select to_regclass(format('%I.%I', schema, t))
      from unnest('{organizations,organization_secrets,agents,visitors,conversations,messages,realtime_conversations,read_receipts}'::name[]) as t))
  loop
    execute format('comment on policy %I on %s is %L', made.polname, made.relation, 'campfire: ' || made.purpose || '.');
  end loop;
end
$$;
comment on function campfire.install_on_schema(name) is
  'Internal. Rights on the schema itself, and comments on the policies, made by campfire.install().';
