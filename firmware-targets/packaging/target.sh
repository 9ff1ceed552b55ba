# What build, verify and package know of a target. To be sourced from the root of the repository, with `target` set.

refuse() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 2
}

# What is asked for is sound, and something that it needs cannot be had on this machine.
lack() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 3
}

# A package of the system, installed if it is missing and we may.
require_package() {
    dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed && return
    [ "$(id -u)" -eq 0 ] || lack "$1 is missing: sudo apt-get install --no-install-recommends $1"
    printf '%s: installing %s\n' "$0" "$1" >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$1" >/dev/null </dev/null ||
        lack "$1 cannot be installed (above)"
}

require_target() {
    [ -f "firmware-targets/$target/target.toml" ] ||
        refuse "there is no firmware-targets/$target/target.toml; there are: $(cd firmware-targets && echo */target.toml)"
}

# A text or number of the target's manifest.
manifest() {
    sed -n "s/^$1 = \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "firmware-targets/$target/target.toml"
}

# The elements of an array of texts in the manifest, a line each.
manifest_list() {
    sed -n "s/^$1 = \[\(.*\)\]\$/\1/p" "firmware-targets/$target/target.toml" | tr ',' '\n' | sed -n 's/^ *"\(.*\)" *$/\1/p'
}

# The architecture as Debian calls it.
debian_architecture() {
    case $(manifest triple) in
    x86_64-*) echo amd64 ;;
    aarch64-*) echo arm64 ;;
    armv7-*) echo armhf ;;
    riscv64gc-*) echo riscv64 ;;
    *) refuse "no architecture is known for the triple $(manifest triple)" ;;
    esac
}

# The same as the header of a program calls it.
elf_machine() {
    case $(debian_architecture) in
    amd64) echo "Advanced Micro Devices X86-64" ;;
    arm64) echo AArch64 ;;
    armhf) echo ARM ;;
    riscv64) echo RISC-V ;;
    esac
}

check_architecture() {
    local found
    found=$(readelf --file-header "$program" 2>/dev/null | sed -n 's/^ *Machine: *//p' || true)
    [ "$found" = "$(elf_machine)" ] ||
        refuse "$program is for '${found:-no machine that readelf knows}', $target is '$(elf_machine)'"
}

# The newest version of the C library that the program asks for; nothing for a static one.
needed_glibc() {
    readelf --version-info --wide "$program" | sed -n 's/.*Name: GLIBC_\([0-9.]*\).*/\1/p' | sort --version-sort | tail -1
}

# Sets `glibc`. A program that needs a newer C library than the target has would not start there.
check_glibc() {
    local ceiling
    ceiling=$(manifest libc)
    glibc=$(needed_glibc)
    if [ "$ceiling" = musl ]; then
        [ -z "$glibc" ] || refuse "$program needs glibc $glibc, and $target has musl"
        return
    fi
    ceiling=${ceiling#glibc-}
    [ -n "$glibc" ] || glibc=0
    if [ "$(printf '%s\n%s\n' "$glibc" "$ceiling" | sort --version-sort | tail -1)" != "$ceiling" ]; then
        refuse "$program needs glibc $glibc, $target has $ceiling: build it where the C library is no newer"
    fi
}
