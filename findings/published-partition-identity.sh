#!/usr/bin/env bash
# A published partitioned table says `replica identity full` on the wire, and its deletes bring the key alone.
#
# Software: PostgreSQL 15.18, 18.4; pgoutput with publish_via_partition_root.
# Guess:    `alter table parent replica identity full` either reaches the partitions or is refused; or at least the
#           identity that pgoutput announces is the one by which the rows were logged.
# Seen:     It reaches no partition, also none that is made later, and says nothing. pgoutput announces the identity of
#           the root, "full", while each row was logged by its partition's, "default". The tuple of a DELETE is labelled
#           as a whole old row, and columns that held values are null in it. A reader cannot tell such a null from a real one.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
relation parent (id, place, body) identity full
relation child (id, place, body) identity default
insert parent id=1 place=1 body=text
delete parent old: id=1 place=1 body=null
18.4
relation parent (id, place, body) identity full
relation child (id, place, body) identity default
insert parent id=1 place=1 body=text
delete parent old: id=1 place=1 body=null"
import { connect, decode, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const client = await connect(version)
  console.log((await sql(client, 'show server_version'))[0].server_version)
  await sql(client, `create table parent (id int, place int, body text, primary key (id, place)) partition by list (place);
    alter table parent replica identity full;
    create table child partition of parent for values in (1);
    create publication everything for table parent with (publish_via_partition_root = true)`)
  await sql(client, "select pg_create_logical_replication_slot('reader', 'pgoutput')")
  await sql(client, "insert into parent values (1, 1, 'text')")
  await sql(client, 'delete from parent')
  for (const line of await decode(client, 'reader', 'everything')) console.log(line)
  await client.end()
}
JS
