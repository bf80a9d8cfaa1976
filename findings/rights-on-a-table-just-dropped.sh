#!/usr/bin/env bash
# One query of PostgreSQL's catalog can show a table and answer null for the rights on it.
#
# Software: PostgreSQL 15.18 and 18.4.
# Guess:    A query sees one state of the catalog: while its snapshot shows a row of pg_class, has_table_privilege() of that
#           row's oid is true or false, and its name can be had. A function that answers boolean in every example is never
#           null for an oid that the same query has found.
# Seen:     The rows come from the snapshot, the functions look at the newest catalog. If another session drops the table
#           between the two, rights and size are null, the cast to regclass gives the number, and the comment and the
#           columns are still there. A client that reads the rights as a boolean that is never null breaks then. Here a
#           snapshot that is held makes the moment long; a single statement has it, too, only shorter.
source "$(dirname "$0")/lib/setup.sh"
for version in 15 18; do postgres $version; done
javascript <<'JS' | seen_is "15.18
before: rights true, column true, size 0, name orders, comment goods, columns 2
after: rights null, column null, size null, name a number, comment goods, columns 2
18.4
before: rights true, column true, size 0, name orders, comment goods, columns 2
after: rights null, column null, size null, name a number, comment goods, columns 2"
import { connect, sql } from './postgres.mjs'
for (const version of [15, 18]) {
  const [reader, owner] = [await connect(version), await connect(version)]
  console.log((await sql(reader, 'show server_version'))[0].server_version)
  await sql(owner, `create table orders (id int, title text); comment on table orders is 'goods'`)
  await sql(reader, 'begin isolation level repeatable read')
  const look = async (when) => {
    const [row] = await sql(reader, `select has_table_privilege(c.oid, 'select') as rights,
        has_column_privilege(c.oid, 'id', 'select') as col, pg_relation_size(c.oid) as size,
        case when c.oid::regclass::text = c.oid::text then 'a number' else c.oid::regclass::text end as name,
        obj_description(c.oid, 'pg_class') as comment,
        (select count(*) from pg_attribute where attrelid = c.oid and attnum > 0) as columns
      from pg_class as c where relname = 'orders'`)
    const { rights, col, size, name, comment, columns } = row
    console.log(`${when}: rights ${rights}, column ${col}, size ${size}, name ${name}, comment ${comment}, columns ${columns}`)
  }
  await look('before')
  // The reader's lock on the table itself would make the owner wait; a query of the catalog takes none.
  await sql(owner, 'drop table orders')
  await look('after')
  await sql(reader, 'commit')
  await Promise.all([reader.end(), owner.end()])
}
JS
