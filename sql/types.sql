-- What a column may be, whatever publishes it.

create function campfire.is_scalar(type regtype) returns boolean
language sql stable strict parallel safe
return type in (
    'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype,
    'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
    'numeric'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
    'timestamptz'::regtype)
  -- Looked for only where it must be: the guard asks for every column of every published table.
  or (
    with recursive base (oid, typtype, typbasetype) as (
      select t.oid, t.typtype, t.typbasetype from pg_catalog.pg_type as t where t.oid = type
      union all
      select t.oid, t.typtype, t.typbasetype
      from base join pg_catalog.pg_type as t on t.oid = base.typbasetype
      where base.typtype = 'd'
    )
    select exists (
      select from base
      where base.typtype <> 'd'
        and (base.oid in (
              'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype,
              'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
              'numeric'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
              'timestamptz'::regtype)
          or exists (
              select from pg_catalog.pg_depend as d
              join pg_catalog.pg_extension as e on e.oid = d.refobjid
              join pg_catalog.pg_type as t on t.oid = d.objid
              where d.classid = 'pg_catalog.pg_type'::regclass and d.objid = base.oid
                and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
                and e.extname = 'citext' and t.typname = 'citext'))
    )
  );
comment on function campfire.is_scalar(regtype) is
  'The one verdict on types: whether a column of this type may be published. Domains are judged by what they are over. '
  'Example: select campfire.is_scalar(''jsonb'');';

create function campfire.publishable_columns(relation regclass)
returns table (column_name name, type_name text, publishable boolean, reason text)
language sql stable strict set search_path = pg_catalog, pg_temp
begin atomic
  select
    a.attname,
    pg_catalog.format_type(a.atttypid, a.atttypmod),
    a.attgenerated = '' and campfire.is_scalar(a.atttypid::regtype),
    case
      when a.attgenerated <> '' then 'generated columns are not replicated'
      when not campfire.is_scalar(a.atttypid::regtype)
        then pg_catalog.format('type %s is not scalar', pg_catalog.format_type(a.atttypid, a.atttypmod))
    end
  from pg_catalog.pg_attribute as a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
  order by a.attnum;
end;
comment on function campfire.publishable_columns(regclass) is
  'Columns of a table, and which of them may be published; reason says why not. Example: select * from campfire.publishable_columns(''conversations'');';
