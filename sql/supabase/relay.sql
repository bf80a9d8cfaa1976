-- What the relay asks of schema realtime.

create function campfire.require_supabase_api() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  damage text;
begin
  if not campfire.has_supabase_api() then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'schema realtime is missing, or is not campfire''s',
      hint = 'select campfire.install_supabase_api();';
  end if;
  select string_agg(initcap(left(d.problem, 1)) || substr(d.problem, 2) || '.', ' ') into damage from campfire.supabase_api_damage() as d;
  if damage is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'schema realtime is not as campfire.install_supabase_api() made it',
      detail = damage,
      hint = 'select campfire.install_supabase_api();';
  end if;
end
$$;
comment on function campfire.require_supabase_api() is 'Internal. Raises 55000 unless schema realtime is campfire''s and complete.';

create function campfire.realtime_probe(topic text, extensions text[]) returns table (extension text, id uuid)
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform campfire.require_supabase_api();
  return query select p.extension, p.id from realtime.probe(realtime_probe.topic, realtime_probe.extensions) as p;
end
$$;
comment on function campfire.realtime_probe(text, text[]) is
  'For the relay: inserts a row into realtime.messages for each extension (broadcast, presence), whatever the policies say, and returns '
  'the ids. In the same transaction the relay sets the role, realtime.topic and the claims, sees which of the ids it can select, and '
  'always rolls back. Such a row has no event and no payload, so that nothing would be sent even if it were committed. Raises 55000 '
  'without schema realtime. Example: select * from campfire.realtime_probe(''room:7'', ''{broadcast,presence}'');';

create function campfire.realtime_history(topic text, since timestamptz, rows_max integer)
returns table (id uuid, event text, payload text, binary_payload bytea)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not campfire.has_supabase_api() then
    return; -- Nobody has sent any.
  end if;
  perform campfire.require_supabase_api();
  return query select h.id, h.event, h.payload, h.binary_payload
    from realtime.history(realtime_history.topic, realtime_history.since, realtime_history.rows_max) as h;
end
$$;
comment on function campfire.realtime_history(text, timestamptz, integer) is
  'For the relay: the newest messages of a private channel with inserted_at since then, oldest first. Policies do not apply here: they '
  'have already admitted the client that asks. The order is that of commits if track_commit_timestamp is on, else that of inserted_at. '
  'None without schema realtime. Raises 55000 if it is damaged. Example: select * from campfire.realtime_history(''room:7'', now() - interval ''1 hour'', 25);';

create function campfire.maintain_supabase_api() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if not campfire.has_supabase_api() then
    return;
  end if;
  if exists (select from campfire.supabase_api_damage()) then
    raise warning using
      errcode = 'object_not_in_prerequisite_state',
      message = 'could not make or drop partitions of realtime.messages',
      detail = 'Schema realtime is not as campfire.install_supabase_api() made it: see campfire.check_supabase_api().',
      hint = 'select campfire.install_supabase_api();';
    return;
  end if;
  perform realtime.maintain();
end
$$;
comment on function campfire.maintain_supabase_api() is
  'For the relay, every hour: runs realtime.maintain() if schema realtime exists and is campfire''s; a WARNING if something it needs was '
  'changed. Example: select campfire.maintain_supabase_api();';
