-- What the conformance suites need in the database beside schema realtime.

-- On private:… a token may do what its claim `grants` lists: "read broadcast", "write presence" and so on. The other
-- conditions are what a policy can see; were one of them wrong, nothing would be allowed.
create function granted(action text, extension text) returns boolean language sql stable
return realtime.topic() like 'private:%'
  and current_setting('request.jwt.claim.role') = 'authenticated'
  and current_setting('request.jwt.claim.sub') = current_setting('request.jwt.claims')::jsonb ->> 'sub'
  and current_setting('request.jwt.claims')::jsonb -> 'grants' ? (action || ' ' || extension);
create policy "read as granted" on realtime.messages for select to authenticated using (granted('read', extension));
create policy "write as granted" on realtime.messages for insert to authenticated
  with check (granted('write', extension));

-- A table whose changes a trigger broadcasts, as Supabase's guides have it.
create table notes (id uuid primary key, room text not null, body text);
create function broadcast_note() returns trigger language plpgsql as $$
begin
  perform realtime.broadcast_changes(coalesce(new.room, old.room), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end $$;
create trigger broadcast_note after insert or update or delete on notes for each row execute function broadcast_note();
