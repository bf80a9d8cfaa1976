-- The keys by which the relay knows messages of campfire's own.
--
-- pg_logical_emit_message() is open to every role. What the relay shall believe is therefore signed, under a key that
-- only superusers and the relay can read, together with the database and the transaction: a message that was copied
-- from the WAL into another transaction is worth nothing.
--
-- No statement has a key as a constant, and no function as a variable, parameter or result: pgaudit and auto_explain
-- write all of these into the server log. So what signs is in Rust and reads the key by itself.

create table campfire.broadcast_keys (
  id integer primary key generated always as identity,
  key bytea not null check (octet_length(key) = 32),
  created_at timestamptz not null default now()
);
comment on table campfire.broadcast_keys is
  'Keys by which the relay knows messages of campfire''s own; the one with the highest id signs. Never dumped. See campfire.rotate_broadcast_key().';
comment on sequence campfire.broadcast_keys_id_seq is 'Internal. Numbers of keys.';
comment on column campfire.broadcast_keys.id is 'Number of the key; stands in each message.';
comment on column campfire.broadcast_keys.key is 'The secret.';
comment on column campfire.broadcast_keys.created_at is 'When it was made.';

create function campfire.rotate_broadcast_key() returns integer
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  made integer;
begin
  perform campfire.require_superuser('campfire.rotate_broadcast_key()');
  lock table campfire.broadcast_keys in share row exclusive mode;
  -- Signed by the key of before, so that the relay believes it and looks for the new one.
  if exists (select from campfire.broadcast_keys) then
    perform campfire.emit('campfire.keys', '');
  end if;
  -- Four times 122 random bits of the kind that keys are made of.
  insert into campfire.broadcast_keys (key)
  select sha256(string_agg(uuid_send(gen_random_uuid()), '')) from generate_series(1, 4)
  returning id into made;
  -- The one before stays, for messages that the relay has not read yet.
  delete from campfire.broadcast_keys as k where k.id < (
    select max(p.id) from campfire.broadcast_keys as p where p.id < made);
  return made;
end
$$;
comment on function campfire.rotate_broadcast_key() is
  'Makes a new key for campfire.broadcast(), and forgets all but the one before it, by which messages still in the WAL are known. '
  'Returns its number. Superuser. Raises 42501. Example: select campfire.rotate_broadcast_key();';

select campfire.rotate_broadcast_key();

comment on function campfire.emit(text, text) is
  'Internal. Writes a signed, transactional logical message: "v1 KEY HMAC", a line feed, the body. The HMAC-SHA256, in hexadecimal, is '
  'over prefix, oid of the database, xid of the transaction in 64 bits and body, with line feeds between them, in UTF-8. '
  'Raises 54000 for a body above 16 MiB.';
