#!/bin/sh
# Stands in for `tidegate wrap` in the tests of the adapters that start it: the same files, lock, signals and exit codes,
# with a lease that nobody can renew and a server that need not listen. STUBBORN=1 makes it note SIGTERM and go on;
# ADDRESS is where it says that it listens. As `serve` it stands in for a server of our own.
case $1 in
    --version) echo 'stand-in 1' && exit ;;
    serve) exec sleep 600 ;;
esac
shift # wrap
while [ "$1" != -- ]; do
    case $1 in
        --run-dir) dir=$2 ;;
        --lease-ttl) lease_ttl=$2 ;;
    esac
    shift 2
done
shift # --

exec 9<>"$dir/lock" || exit 1
flock -n 9 || exit 75
echo $$ >"$dir/lock"

end() {
    kill "$server" "$lease" 2>/dev/null
    echo "$1" >"$dir/ended"
    exit 0
}

if [ -n "$STUBBORN" ]; then
    trap 'echo asked to end' TERM
else
    trap 'end "asked to end"' TERM
fi
"$@" 9>&- &
server=$!
sleep "$lease_ttl" 9>&- &
lease=$!
echo "${ADDRESS:-127.0.0.1:9}" >"$dir/address.new"
mv "$dir/address.new" "$dir/address"

while kill -0 "$server" 2>/dev/null; do
    kill -0 "$lease" 2>/dev/null || end "its lease expired"
    sleep 0.05 9>&-
done
end "its server ended"
