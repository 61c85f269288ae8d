#!/bin/sh
# The guest's page: it names itself.
. /guest/common

printf 'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\r\n'
safe() { sed 's/&/\&amp;/g; s/</\&lt;/g' "$@"; }
cat <<END
<!DOCTYPE html>
<title>$(hostname)</title>
<h1>$(hostname)</h1>
<pre>
hostname: $(hostname)
name: $(safe "$RUN/name")
uuid: $(safe "$RUN/uuid")
addresses: $(echo $(addresses))
told by: $(cat "$RUN/told-by")
uptime: $(uptime_s) s
</pre>
END
