-- Tables that campfire.make_live() made live, and what of them campfire.make_live_undo() takes back.

create table campfire.live_tables (
  source regclass primary key,
  publication name, -- to which make_live() added the table or its mirror; null if one carried it already
  has_projection boolean not null, -- whether make_live() made the projection
  routes bigint[] not null default '{}' -- that make_live() made
);
comment on table campfire.live_tables is
  'Internal. What campfire.make_live() made, and so what campfire.make_live_undo() removes. Included in dumps.';
select pg_extension_config_dump('campfire.live_tables', 'where source in (select oid from pg_catalog.pg_class)');

create function campfire.rows_publication() returns name
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((
  select m.name from campfire.managed_publications as m where m.control_of is null order by m.name <> 'campfire', m.name limit 1), 'campfire');
comment on function campfire.rows_publication() is 'Internal. The publication to which tables are added if nobody names one.';

create function campfire.is_published_itself(relation regclass) returns boolean
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  -- A projection, once it exists, is what is routed. Otherwise: every old value is in the WAL, and every column may be.
  select not exists (select from campfire.projections as p where p.source = relation) and c.relreplident = 'f'
    and not exists (select from campfire.publishable_columns(relation) as k where not k.publishable)
  from pg_catalog.pg_class as c where c.oid = relation
);
comment on function campfire.is_published_itself(regclass) is
  'Internal. Whether make_live() routes the rows of this table itself, not those of a mirror: it has replica identity full, only scalar '
  'columns, and no projection.';

-- What to paste next --------------------------------------------------------------------------------------------------

create function campfire.suggested_policy(channel text) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select pg_catalog.format(
    'create policy %I on %s for select to authenticated using (extension = ''broadcast'' and (select %s.topic()) = %s);',
    campfire.name_around('', t.template, ''),
    case when campfire.has_supabase_api() then 'realtime.messages' else 'campfire.private_channels' end,
    case when campfire.has_supabase_api() then 'realtime' else 'campfire' end,
    (select pg_catalog.string_agg(case when starts_with(m[1], '{')
        then pg_catalog.format('(select campfire.claim(%L))', pg_catalog.btrim(m[1], '{}')) else quote_literal(m[1]) end, ' || ' order by n)
     from pg_catalog.regexp_matches(t.template, '\{[^{}]*\}|[^{}]+', 'g') with ordinality as r (m, n)))
  from (select pg_catalog.regexp_replace(channel, '^bcast:', '') as template) as t
);
comment on function campfire.suggested_policy(text) is
  'Internal. SQL that lets clients join the private channels of a template: those whose token has claims named like its columns, with the '
  'values of the channel.';

create function campfire.suggested_reading(relation regclass, channel text, columns name[]) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
  select case when c.relrowsecurity then pg_catalog.concat_ws(e'\n',
    case when not has_schema_privilege('authenticated', c.relnamespace, 'usage')
      then pg_catalog.format('grant usage on schema %s to authenticated;', c.relnamespace::regnamespace) end,
    pg_catalog.format('grant select (%s) on %s to authenticated;', campfire.projection_column_list(columns, ''), campfire.qualified_name(relation)),
    pg_catalog.format('create policy %I on %s for select to authenticated using (%s);', campfire.name_around('', channel, ''),
      campfire.qualified_name(relation), coalesce((
        select pg_catalog.string_agg(pg_catalog.format('%I::text = (select campfire.claim(%L))', k, k), ' and ')
        from pg_catalog.unnest(campfire.template_columns(channel)) as k), 'true'))) end
  from pg_catalog.pg_class as c where c.oid = relation
);
comment on function campfire.suggested_reading(regclass, text, name[]) is
  'Internal. SQL that lets those clients read the rows of a snapshot, too. Null for a table without row-level security, where a grant alone '
  'would show them every row.';
