#!/usr/bin/env bash
# pgaudit.log_parameter logs the variables of PL/pgSQL functions, of which the client knows nothing.
#
# Software: pgaudit 1.7.0 (Debian's postgresql-15-pgaudit 1.7.0-2), PostgreSQL 15.18.
# Guess:    Parameters are what a client passes beside its statement; one that passes none has none logged.
# Seen:     Each statement inside a function is audited as well, and to it the function's variables are parameters. A value
#           that a function reads from a table and uses stands in the log, though no client ever sent or saw it.
# Needs:    Debian 12's apt, to download the package. It is unpacked into the temporary folder, not installed.
source "$(dirname "$0")/lib/setup.sh"
server 15
apt-get download postgresql-15-pgaudit=1.7.0-2 > /dev/null 2>&1
dpkg -x postgresql-15-pgaudit_*.deb pgaudit
cp pgaudit/usr/lib/postgresql/15/lib/pgaudit.so pg15/native/lib/postgresql/
postgres 15 shared_preload_libraries=pgaudit pgaudit.log=write pgaudit.log_parameter=on
javascript <<'JS'
import { connect, sql } from './postgres.mjs'
const client = await connect(15)
await sql(client, `create table keys (key text); create table uses (day date, digest text)`)
await sql(client, "insert into keys values ('from the table')")
await sql(client, `create function use_key() returns void language plpgsql as $$
  declare key text := (select k.key from keys as k);
  begin
    insert into uses values ('2026-11-27', md5(key));
  end $$`)
await sql(client, 'select use_key()')
await client.end()
JS
grep -o 'AUDIT: .*INSERT,,,.*' pg15/logfile | grep 'uses' | sed 's/^AUDIT: *//' |
  seen_is "SESSION,2,1,WRITE,INSERT,,,\"insert into uses values ('2026-11-27', md5(key))\",\",from the table\""
