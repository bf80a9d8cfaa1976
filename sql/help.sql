-- What there is to call. psql's \df+ would print the text of every function as well.

create view campfire.help (name, arguments, comment) as
select p.proname, pg_get_function_arguments(p.oid), d.description
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
join pg_catalog.pg_description as d on d.objoid = p.oid and d.classoid = 'pg_catalog.pg_proc'::regclass and d.objsubid = 0
where n.nspname = 'campfire'
  and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
  and d.description !~ '^(Internal|For the relay)\M'
order by p.proname, pg_get_function_arguments(p.oid);
comment on view campfire.help is
  'The functions and procedures of campfire that people call: name, arguments, and what they do, raise and look like when called. '
  'Example: select * from campfire.help where name like ''%projection'';';
comment on column campfire.help.name is 'Name, in schema campfire.';
comment on column campfire.help.arguments is 'Names, types and defaults of its arguments.';
comment on column campfire.help.comment is 'What it does, the SQLSTATEs that it raises, and an example.';
