#!/bin/sh
# Stands in for `tidegate wrap` in a container: the same arguments, secrets, signals and end, with a lease that nobody can
# renew and a port that takes connections. STUBBORN=1 makes it note SIGTERM and go on.
shift # wrap
while [ "$1" != -- ]; do
    case $1 in
        --lease-ttl) lease_ttl=${2%s} ;;
        --listen) port=${2##*:} ;;
        --token-file | --tls-cert-file | --tls-key-file)
            [ -s "$2" ] || {
                echo "cannot read $2"
                exit 78
            }
            ;;
    esac
    shift 2
done
shift # --

end() {
    kill "$server" "$lease" "$front" 2>/dev/null
    echo "$1"
    exit "$2"
}

if [ -n "$STUBBORN" ]; then
    trap 'echo asked to end' TERM
else
    trap 'end "asked to end" 0' TERM
fi
nc -ll -p "$port" -e echo tidegate &
front=$!
"$@" &
server=$!
sleep "$lease_ttl" &
lease=$!

while kill -0 "$server" 2>/dev/null; do
    kill -0 "$lease" 2>/dev/null || end "its lease expired" 0
    sleep 0.05
done
wait "$server"
end "its server ended with $?" 1
