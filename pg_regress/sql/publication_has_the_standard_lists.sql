\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
select p.pubname, r.prrelid::regclass as relation, campfire.column_list(p.pubname, r.prrelid) as columns
from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
order by p.pubname, r.prrelid::regclass::text;
select pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot from pg_publication order by pubname;
select * from campfire.check_publication('campfire');
select * from campfire.check_publication('campfire_control');
-- Publications are the database's, not the extension's.
select count(*) from pg_depend where classid = 'pg_publication'::regclass and deptype = 'e';
