-- The partitions of realtime.messages, one a day: what makes them, drops them, and says what is in their way.

create function campfire.install_supabase_partitions() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $install$
begin
  create or replace function realtime.partition_name(day date) returns name
  language sql immutable strict
  return 'messages_' || pg_catalog.to_char(day, 'YYYY_MM_DD');
  comment on function realtime.partition_name(date) is 'Internal. Name of a day''s partition.';

  create or replace function realtime.partition_of(moment timestamp) returns regclass
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
  declare
    candidate record;
    takes boolean;
  begin
    for candidate in
      select c.oid, pg_get_partition_constraintdef(c.oid) as condition
      from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
      where i.inhparent = 'realtime.messages'::regclass and not i.inhdetachpending
      order by c.relname = realtime.partition_name(moment::date) desc
    loop
      -- The condition of a partition names the column alone; a default one that is alone has none.
      execute format('select %s from (values (%L::timestamp)) as probed (inserted_at)', coalesce(candidate.condition, 'true'), moment) into takes;
      if takes then
        return candidate.oid;
      end if;
    end loop;
    return null;
  end
  $$;
  comment on function realtime.partition_of(timestamp) is
    'Internal. The partition of realtime.messages that takes rows of this moment (UTC), which may be the default one; null if none does.';

  create or replace function realtime.takes_today() returns boolean
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
  declare
    moment constant timestamp := now() at time zone 'utc';
  begin
    -- By its name first, which costs nothing.
    return exists (
      select from pg_inherits as i
      where i.inhparent = 'realtime.messages'::regclass and i.inhrelid = to_regclass(format('realtime.%I', realtime.partition_name(moment::date)))
    ) or realtime.partition_of(moment) is not null;
  end
  $$;
  comment on function realtime.takes_today() is 'Internal. Whether realtime.messages has a partition for rows of today.';

  create or replace function realtime.partition_problems() returns table (day date, problem text, fix text)
  language plpgsql stable set search_path = pg_catalog, pg_temp set datestyle = 'ISO' as $$
  declare
    today constant date := (now() at time zone 'utc')::date;
    root constant regclass := 'realtime.messages';
    default_partition regclass;
    first_part regclass;
    last_part regclass;
    culprit regclass;
    other name;
  begin
    select p.partdefid::regclass into default_partition from pg_partitioned_table as p where p.partrelid = root and p.partdefid <> 0;
    for day in select today + n from generate_series(-1, 3) as n loop
      first_part := nullif(realtime.partition_of(day), default_partition);
      last_part := nullif(realtime.partition_of(day + time '23:59:59.999999'), default_partition);
      continue when first_part is not null and last_part is not null;
      culprit := to_regclass(format('realtime.%I', realtime.partition_name(day)));
      if culprit is not null then
        problem := format('relation %s is in the way of the partition of %s: it is %s', culprit, day, coalesce(
          (select 'one ' || pg_get_expr(c.relpartbound, c.oid) from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
           where i.inhrelid = culprit and i.inhparent = root), 'no partition of realtime.messages'));
        other := format('%s_kept', realtime.partition_name(day));
        while to_regclass(format('realtime.%I', other)) is not null loop
          other := other || '_';
        end loop;
        fix := format('alter table %s rename to %I; select realtime.make_partitions();', culprit, other);
      elsif default_partition is not null then
        problem := format('rows of %s go to the default partition %s, and are never dropped', day, default_partition);
        fix := format('alter table realtime.messages detach partition %s; select realtime.make_partitions();', default_partition);
      else
        culprit := coalesce(first_part, last_part, (
          select i.inhrelid from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
          where i.inhparent = root and pg_get_expr(c.relpartbound, c.oid) ~ (day || ' (?!00:00:00)') limit 1));
        problem := format('no partition takes all rows of %s', day) || coalesce(format(': %s takes a part of them', culprit), '');
        fix := coalesce(format('alter table realtime.messages detach partition %s; ', culprit), '') || 'select realtime.make_partitions();';
      end if;
      return next;
    end loop;
  end
  $$;
  comment on function realtime.partition_problems() is
    'Days from yesterday to three days from now (UTC) for which realtime.messages has no partition of its own, why, and SQL that fixes '
    'it. Rows of a table that is renamed or detached stay in that table, and are no longer part of the history. Example: select * from '
    'realtime.partition_problems();';

  create or replace function realtime.make_partitions() returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
  declare
    wanted record;
    made integer := 0;
  begin
    -- Conflicts with itself and not with INSERT. Attaching takes it too, unlike CREATE ... PARTITION OF.
    lock table realtime.messages in share update exclusive mode;
    for wanted in
      select p.day, p.problem, p.fix, format('realtime.%I', realtime.partition_name(p.day)) as name from realtime.partition_problems() as p
    loop
      begin
        if to_regclass(wanted.name) is not null then
          raise exception using errcode = 'duplicate_table', message = wanted.problem;
        end if;
        execute format('create table %s (like realtime.messages including defaults including constraints)', wanted.name);
        -- Only the whole table is for callers: there its policies hold.
        execute format('revoke all on table %s from public, anon, authenticated, service_role, campfire_relay', wanted.name);
        execute format('alter table %s enable row level security', wanted.name);
        execute format('comment on table %s is %L', wanted.name, 'campfire: a day of realtime.messages. Read and write that one.');
        execute format('alter table realtime.messages attach partition %s for values from (%L) to (%L)',
          wanted.name, wanted.day, wanted.day + 1);
        made := made + 1;
      exception when duplicate_table or invalid_object_definition or check_violation then
        -- One day must not keep the others from being made.
        raise warning using errcode = sqlstate, message = wanted.problem, hint = wanted.fix;
      end;
    end loop;
    return made;
  end
  $$;
  comment on function realtime.make_partitions() is
    'Makes the missing partitions from yesterday to three days from now, as the owner of realtime.messages; returns how many. A WARNING '
    'names what is in the way, and SQL that fixes it: see realtime.partition_problems(). Called by realtime.send() if today''s partition '
    'is missing, and by realtime.maintain().';

  create or replace function realtime.maintain() returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
  declare
    -- Yesterday stays: make_partitions() would make it again.
    oldest constant date := least((now() at time zone 'utc')::date - 1,
      (now() at time zone 'utc' - make_interval(hours => campfire.setting('realtime_retention_hours')::integer))::date);
    lock_timeout constant text := current_setting('lock_timeout');
    partition record;
  begin
    perform realtime.make_partitions();
    for partition in
      select c.relname
      from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
      where i.inhparent = 'realtime.messages'::regclass
        and c.relname ~ '^messages_[0-9]{4}_[0-9]{2}_[0-9]{2}$' and c.relname < realtime.partition_name(oldest)
    loop
      begin
        -- Dropping waits for whoever uses the table, and everybody else would wait behind us.
        perform set_config('lock_timeout', '100ms', true);
        execute format('drop table realtime.%I', partition.relname);
      exception when lock_not_available then
        raise notice 'partition realtime.% is in use and stays until the next run', partition.relname;
      end;
    end loop;
    perform set_config('lock_timeout', lock_timeout, true);
  end
  $$;
  comment on function realtime.maintain() is
    'Makes the partitions that are missing and drops those older than the setting realtime_retention_hours, as the owner of '
    'realtime.messages. The relay calls it every hour; without a relay, the application has to. Example: select realtime.maintain();';

  create or replace function realtime.require_today() returns void
  language plpgsql stable set search_path = pg_catalog, pg_temp as $$
  declare
    today constant date := (now() at time zone 'utc')::date;
  begin
    if realtime.partition_of(now() at time zone 'utc') is null then
      raise exception using
        errcode = 'check_violation',
        message = format('no partition of realtime.messages takes rows of %s', to_char(today, 'YYYY-MM-DD')),
        detail = (select initcap(left(p.problem, 1)) || substr(p.problem, 2) || '.' from realtime.partition_problems() as p where p.day = today),
        hint = coalesce((select p.fix from realtime.partition_problems() as p where p.day = today), 'select realtime.make_partitions();'),
        schema = 'realtime', table = 'messages';
    end if;
  end
  $$;
  comment on function realtime.require_today() is
    'Internal. Raises 23514, with what is in the way, if no partition takes rows of the current time.';
end
$install$;
comment on function campfire.install_supabase_partitions() is
  'Internal. The functions in schema realtime that maintain partitions, made by campfire.install_supabase_api().';
