#!/usr/bin/env bash
# A second host in a connection URL makes libpq forget PGPORT, for all hosts.
#
# Software: libpq 18.6 as psycopg 3.3.9 (psycopg-binary, PyPI) brings it; libpq 15.20 (psql) does the same.
# Guess:    Hosts without a port have that of PGPORT, however many there are, in a URL as in `host=`.
# Seen:     In `host=a,b`, and in a URL whose hosts are a parameter, they have. Of hosts in the place for hosts libpq joins
#           the ports by commas, also where none is given: the port is then "," and not missing, so that PGPORT does not
#           count, and each empty entry is the port that was compiled in. A standby added to a URL moves the primary's port.
# Shown by: paths of sockets that do not exist, which stand in the error.
source "$(dirname "$0")/lib/setup.sh"
pip_install psycopg==3.3.9 psycopg-binary==3.3.9
PGPORT=6543 venv/bin/python - <<'PY' | seen_is \
  'postgresql://%2Fnone/d: 6543
postgresql://%2Fnone,%2Fnone/d: 5432 5432
postgresql:///d?host=/none,/none: 6543 6543
host=/none,/none dbname=d: 6543 6543
postgresql://%2Fnone,%2Fnone:7000/d: 5432 7000'
import re
from psycopg import pq

for url in [
    "postgresql://%2Fnone/d",
    "postgresql://%2Fnone,%2Fnone/d",
    "postgresql:///d?host=/none,/none",
    "host=/none,/none dbname=d",
    "postgresql://%2Fnone,%2Fnone:7000/d",
]:
    connection = pq.PGconn.connect(url.encode())
    ports = re.findall(r"s\.PGSQL\.(\d+)", connection.error_message.decode())
    print(f"{url}: {' '.join(ports)}")
PY
