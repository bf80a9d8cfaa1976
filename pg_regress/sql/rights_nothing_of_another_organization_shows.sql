\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- Whatever a visitor or an agent of A tries, the outcome (rows, counts, errors with detail and hint) is the same
-- whether B exists with all its rows or does not exist. The attempts are made from the catalogs: every table and every
-- function that these roles may use, with B's ids in every place of type uuid.
begin;
set client_min_messages = error;
insert into organizations (id, name) values ('00000000-0000-4000-8000-00000000000a', 'A');
insert into agents (organization_id, user_id, display_name) values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000a1', 'Ada');
insert into conversations (id, organization_id, customer_name, created_at, updated_at)
values ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-00000000000a', 'Ann', '2020-01-01', '2020-01-01');
insert into messages (id, organization_id, conversation_id, content, sender_type, created_at)
values ('00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000c1', 'mine', 'visitor', '2020-01-01');
create table b_ids (what text, id uuid);
insert into b_ids values
  ('organization', '00000000-0000-4000-8000-00000000000b'), ('agent', '00000000-0000-4000-8000-0000000000b1'),
  ('visitor', '00000000-0000-4000-8000-0000000000b2'),
  ('conversation', '00000000-0000-4000-8000-0000000000d1'), ('message', '00000000-0000-4000-8000-0000000000f1');
create procedure make_b() language sql as $$
  insert into organizations (id, name, allowed_origins) values ('00000000-0000-4000-8000-00000000000b', 'B', '{https://b.example}');
  insert into agents (organization_id, user_id, display_name) values ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000b1', 'Bob');
  insert into organization_secrets (organization_id, secret) values ('00000000-0000-4000-8000-00000000000b', repeat('b', 32));
  insert into visitors (id, organization_id, external_id, name) values ('00000000-0000-4000-8000-0000000000b2', '00000000-0000-4000-8000-00000000000b', '7', 'Bea');
  insert into conversations (id, organization_id, customer_name, assignee_id, visitor_id)
  values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'Ben', '00000000-0000-4000-8000-0000000000b1', '00000000-0000-4000-8000-0000000000b2');
  insert into messages (id, organization_id, conversation_id, content, sender_type)
  values ('00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-0000000000d1', 'secret', 'agent');
  insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
  values ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-00000000000b', 'agent', '00000000-0000-4000-8000-0000000000b1', '00000000-0000-4000-8000-0000000000f1');
$$;
create table callers (role name, claims text);
insert into callers values
  ('anon', '{"role": "anon", "org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1"}'),
  -- Half of a token of B's: no such token is ever made, and still.
  ('anon', '{"role": "anon", "org_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000d2"}'),
  ('anon', ''),
  ('authenticated', '{"role": "authenticated", "sub": "00000000-0000-4000-8000-0000000000a1", "org_id": "00000000-0000-4000-8000-00000000000a"}'),
  -- An agent of A that claims to be in B.
  ('authenticated', '{"role": "authenticated", "sub": "00000000-0000-4000-8000-0000000000a1", "org_id": "00000000-0000-4000-8000-00000000000b"}');

-- The outcome of one attempt. Nothing of it stays.
create function outcome(with_b boolean, caller callers, attempt text) returns text language plpgsql as $$
declare
  found_rows text;
  detail text;
  hint text;
  count bigint;
begin
  if with_b then
    call make_b();
  end if;
  perform set_config('request.jwt.claims', caller.claims, true), set_config('role', caller.role, true);
  begin
    if attempt ~ '^(select|with)' then
      execute format('select coalesce(jsonb_agg(to_jsonb(r) order by to_jsonb(r)::text), ''[]'') from (%s) as r', attempt) into found_rows;
    else
      execute attempt;
    end if;
    get diagnostics count = row_count;
    -- What was deferred shows now.
    set constraints all immediate;
    found_rows := coalesce(found_rows, count || ' rows');
  exception when others then
    get stacked diagnostics detail = pg_exception_detail, hint = pg_exception_hint;
    found_rows := concat_ws(' / ', sqlstate, sqlerrm, detail, hint);
  end;
  raise exception using errcode = 'ZZ000', message = found_rows;
exception when sqlstate 'ZZ000' then
  return sqlerrm;
end $$;

create table attempts (n serial, role name, attempt text, unique (role, attempt));
-- Reading: every column that may be read, all rows and those of B.
insert into attempts (role, attempt)
with readable as (
  select r.role, c.oid, string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
  from (select distinct role from callers) as r
  cross join pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.relnamespace in ('public'::regnamespace, 'campfire'::regnamespace) and c.relkind in ('r', 'v', 'p')
    and c.relname not in ('b_ids', 'callers', 'attempts') and has_column_privilege(r.role, c.oid, a.attnum, 'select')
  group by 1, 2)
select role, format('select %s from %s', columns, oid::regclass) from readable
union all
select role, format('select %s from %s where %I = %L', columns, oid::regclass, a.attname, b.id)
from readable as t join pg_attribute as a on a.attrelid = t.oid and a.atttypid = 'uuid'::regtype and not a.attisdropped cross join b_ids as b;
-- Writing: a row that would do (or has an id that it may not have), with B's ids in the place of each of its own, two at a time.
create table rows_that_do (role name, relation regclass, row jsonb);
insert into rows_that_do values
  ('anon', 'conversations', '{"id": "00000000-0000-4000-8000-0000000000d2", "organization_id": "00000000-0000-4000-8000-00000000000a"}'),
  ('anon', 'messages', '{"id": "00000000-0000-4000-8000-0000000000e2", "organization_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "content": "x", "sender_type": "visitor"}'),
  ('anon', 'messages', '{"organization_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "content": "x", "sender_type": "visitor"}'),
  ('anon', 'read_receipts', '{"organization_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "reader_type": "visitor", "reader_id": "00000000-0000-4000-8000-0000000000c1", "last_read_message_id": "00000000-0000-4000-8000-0000000000e1"}'),
  ('authenticated', 'messages', '{"id": "00000000-0000-4000-8000-0000000000e2", "organization_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "content": "x", "sender_type": "agent"}'),
  ('authenticated', 'messages', '{"organization_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "content": "x", "sender_type": "agent"}'),
  ('authenticated', 'read_receipts', '{"organization_id": "00000000-0000-4000-8000-00000000000a", "conversation_id": "00000000-0000-4000-8000-0000000000c1", "reader_type": "agent", "reader_id": "00000000-0000-4000-8000-0000000000a1", "last_read_message_id": "00000000-0000-4000-8000-0000000000e1"}'),
  ('authenticated', 'conversations', '{"id": "00000000-0000-4000-8000-0000000000d2", "organization_id": "00000000-0000-4000-8000-00000000000a", "assignee_id": "00000000-0000-4000-8000-0000000000a1"}'),
  ('authenticated', 'agents', '{"organization_id": "00000000-0000-4000-8000-00000000000a", "user_id": "00000000-0000-4000-8000-0000000000a2", "display_name": "x"}');
insert into attempts (role, attempt)
select distinct t.role, format('insert into %s (%s) values (%s)%s', t.relation,
  (select string_agg(quote_ident(k), ', ') from jsonb_object_keys(changed.row) as k),
  (select string_agg(quote_literal(v), ', ') from jsonb_each_text(changed.row) as e (k, v)), clause)
from rows_that_do as t
cross join jsonb_object_keys(t.row) as first (key) cross join jsonb_object_keys(t.row) as second (key)
cross join b_ids as b cross join b_ids as c
cross join lateral (select t.row || jsonb_build_object(first.key, b.id, second.key, c.id)) as changed (row)
cross join unnest(array['', ' on conflict do nothing']) as clause
where t.row ->> first.key like '________-%' and t.row ->> second.key like '________-%';
-- Changing: B's ids put into A's rows, B's rows changed, deleted and locked.
insert into attempts (role, attempt)
select r.role, format('update %s set %I = %L%s', c.oid::regclass, a.attname, b.id, condition)
from (select distinct role from callers) as r
cross join pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.atttypid = 'uuid'::regtype and a.attnum > 0 and not a.attisdropped
cross join b_ids as b cross join unnest(array['', format(' where %I = %L', a.attname, b.id)]) as condition
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relrowsecurity
union
select r.role, format('%s %s where %I = %L%s', verb, c.oid::regclass, a.attname, b.id, case verb when 'select 1 from' then ' for update' else '' end)
from (select distinct role from callers) as r
cross join pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.atttypid = 'uuid'::regtype and a.attnum > 0 and not a.attisdropped
cross join b_ids as b cross join unnest(array['delete from', 'select 1 from', 'update only']) as verb
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relrowsecurity and verb <> 'update only';
-- Calling: every function that is exposed, with B's ids, channels, and the tables.
create table arguments (type regtype, value text);
insert into arguments
select 'uuid'::regtype, quote_literal(id) from b_ids
union all select 'text'::regtype, quote_literal(v) from unnest('{org:00000000-0000-4000-8000-00000000000b,org:00000000-0000-4000-8000-00000000000b:conv:00000000-0000-4000-8000-0000000000d1,org_id,claim_organization}'::text[]) as v
union all select 'regclass'::regtype, quote_literal(v) from unnest('{organizations,organization_secrets,agents,visitors,conversations,messages,realtime_conversations,read_receipts}'::text[]) as v
union all values ('name'::regtype, $$'campfire'$$), ('regtype', $$'jsonb'$$), ('jsonb', $$'{}'$$), ('boolean', 'true'),
  ('bigint', '1'), ('integer', '1'), ('text[]', 'null'), ('name[]', $$'{id,organization_id}'$$);
insert into attempts (role, attempt)
with recursive calls (role, function, called, remaining, made) as (
  select r.role, p.oid, p.pronamespace::regnamespace || '.' || quote_ident(p.proname), p.proargtypes::oid[], ''
  from (select distinct role from callers) as r cross join pg_proc as p
  where p.pronamespace in ('campfire'::regnamespace, 'public'::regnamespace) and has_function_privilege(r.role, p.oid, 'execute')
    and p.prorettype <> 'trigger'::regtype and p.proname not in ('outcome', 'make_b') and p.prokind = 'f'
  union all
  -- The vector counts from 0.
  select role, function, called, remaining[array_lower(remaining, 1) + 1:], made || ', ' || a.value
  from calls join arguments as a on a.type = remaining[array_lower(remaining, 1)]
)
select role, format('select * from %s(%s)', called, substr(made, 3)) from calls where cardinality(remaining) = 0
on conflict do nothing;

select left(attempt, 6) as verb, role, count(*) > 10 as many from attempts group by 1, 2 order by 1, 2;
-- A test of the test: who may see B sees a difference.
select count(*) > 100 as differs from attempts as t
where outcome(true, ('service_role', '')::callers, t.attempt) <> outcome(false, ('service_role', '')::callers, t.attempt);
-- What shows: nothing.
select c.role, regexp_replace(t.attempt, '^(insert into \S+) .*?(on conflict.*)?$', '\1 … \2') as attempt, d.without_b, d.with_b, count(*) > 0 as shows
from callers as c join attempts as t on t.role = c.role
cross join lateral (select outcome(false, c, t.attempt), outcome(true, c, t.attempt)) as d (without_b, with_b)
where d.without_b <> d.with_b
group by 1, 2, 3, 4 order by 1, 2, 3;
rollback;
