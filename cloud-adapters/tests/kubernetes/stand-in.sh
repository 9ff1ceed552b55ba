#!/bin/sh
# Stands in for an image with `tidegate wrap` in the tests of the Kubernetes adapter: the same arguments, signals and exit
# codes, with a lease that nobody can renew and a server that need not listen. What it starts dies with it.
shift # wrap
while [ "$1" != -- ]; do
    case $1 in
        --token-file) token=$2 ;;
        --lease-ttl) lease_ttl=$2 ;;
    esac
    shift 2
done
shift # --

[ -s "$token" ] || { echo "no token"; exit 78; }

end() {
    kill "$server" "$lease" 2>/dev/null
    echo "$1"
    exit 0
}

trap 'end "asked to end"' TERM
setpriv --pdeathsig KILL "$@" &
server=$!
setpriv --pdeathsig KILL sleep "$lease_ttl" &
lease=$!

while kill -0 "$server" 2>/dev/null; do
    kill -0 "$lease" 2>/dev/null || end "its lease expired"
    sleep 0.05
done
echo "its server ended"
exit 1
