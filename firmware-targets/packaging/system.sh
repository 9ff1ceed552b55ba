# Boots a whole machine of another kind and plays the scenario in it. To be sourced by verify.

# Enough for the kernel, the program twice (in the first file system and as pages of it), a replica and an instance.
GUEST_MEMORY_MIB=384

# The packages of that machine come through a configuration of apt's own, so that the system's stays as it is.
foreign_apt() {
    local tool=$1
    shift
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    "$tool" -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Sandbox::User=root -o Dir::State::lists="$apt/lists" \
        -o Dir::State::status=/dev/null -o Dir::Cache::archives="$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}

# foreign_package NAME FOLDER: unpacks a package of that machine there.
foreign_package() {
    rm -f "$apt/$1"_*.deb
    (cd "$apt" && foreign_apt apt-get download "$1" >&2)
    dpkg-deb --extract "$apt/$1"_*.deb "$2"
    rm "$apt/$1"_*.deb
}

# A kernel and busybox, as Debian has them for that machine.
fetch_system() {
    local architecture apt kernel
    architecture=$(debian_architecture)
    apt=$cross/apt-$architecture
    system=$cross/system-$architecture
    [ ! -e "$system/complete" ] || return 0
    echo "fetching Debian's kernel and busybox for $architecture"
    rm -rf "$system"
    foreign_apt apt-get update >&2
    kernel=$(foreign_apt apt-cache depends "linux-image-$architecture" | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -1)
    foreign_package "$kernel" "$system"
    foreign_package busybox-static "$system"
    touch "$system/complete"
}

# What the kernel starts first: it brings up what a node stands on, plays the scenario, and switches the machine off.
write_init() {
    cat <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
ip link set lo up
echo "machine     \$(uname -m), Linux \$(uname -r), \$(nproc) cores, \$(date -u +%Y-%m-%d)"
/scenario /usr/bin/tidegate $idle
echo "scenario ended with \$?"
poweroff -f
INIT
}

make_first_file_system() {
    local root=$folder/root file
    mkdir -p "$root"/{bin,lib,usr/bin,proc,sys,dev,tmp,root}
    cp "$system/bin/busybox" "$root/bin/busybox"
    cp "$scenario" "$root/scenario"
    cp "$program" "$root/usr/bin/tidegate"
    if [ -z "$static" ]; then
        require_package "libc6-$(debian_architecture)-cross"
        for file in "$(libraries)"/lib/{ld-linux-*,libc.so.6,libm.so.6,libgcc_s.so.1}; do cp --dereference "$file" "$root/lib/"; done
    fi
    write_init >"$root/init"
    chmod 755 "$root/init"
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$folder/initrd"
}

boot() {
    [ "$(debian_architecture)" = arm64 ] || refuse "--system is known for arm64 only"
    require_package qemu-system-arm
    command -v busybox >/dev/null || require_package busybox-static
    fetch_system
    make_first_file_system
    : >"$folder/console"
    tail -n +1 -f "$folder/console" &
    shown=$!
    supervise qemu-system-aarch64 -machine virt -cpu cortex-a72 -smp 2 -m "$GUEST_MEMORY_MIB" -nic none -display none -monitor none \
        -serial "file:$folder/console" -no-reboot -rtc base=1970-01-01T00:00:00 -kernel "$system"/boot/vmlinuz-* \
        -initrd "$folder/initrd" -append "console=ttyAMA0 quiet panic=-1"
    kill "$shown"
    shown=""
    tr -d '\r' <"$folder/console" | grep -qx "scenario ended with 0" || {
        echo "the machine did not say that the scenario ended with 0" >&2
        exit 1
    }
}
