# Sourced by the scripts beside it: facts of the machine, Debian's packages of the peers unpacked and not installed, the build.
# KEYVIGIL_BENCH_DIR keeps the packages between runs (default: a temporary directory); KEYVIGIL_BENCH_BIN is a built
# keyvigil-aggregator to measure.

work=$(mktemp -d)
child=
# The driver ends its servers when it is told to end; it is waited for.
trap 'if [ -n "$child" ]; then kill "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cache=${KEYVIGIL_BENCH_DIR:-$work/peers}
servers=()

facts() {
    grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /cpu                 /'
    echo "processors          $(nproc)"
    echo "memory              $(awk '/^MemTotal/ {printf "%.1f GiB", $2 / 1048576}' /proc/meminfo)"
    echo "kernel              $(uname -sr)"
    echo "file system         $(df --output=fstype "$work" | tail -1) (of $work)"
    echo "load before         $(cut -d' ' -f1-3 /proc/loadavg)"
}

# peer PACKAGE PROGRAM OPTION: adds it to what is measured, or says why not.
peer() {
    local package=$1 program=$cache/$1/usr/bin/$2
    if [ ! -x "$program" ]; then
        mkdir -p "$cache/$package"
        if ! (cd "$cache/$package" && apt-get download "$package" && dpkg -x "$package"_*.deb . && dpkg-deb -f "$package"_*.deb Version >version && rm -f ./*.deb) >"$work/apt.log" 2>&1; then
            echo "$package: not measured: apt could not fetch it ($(tail -1 "$work/apt.log"))"
            return
        fi
    fi
    printf '%-19s %s, of Debian\n' "$package" "$(cat "$cache/$package/version")"
    servers+=("--$3" "$program")
}

# build [--release]: the driver, and the aggregator unless one is given.
build() {
    local profile=fast
    [ "${1:-}" != --release ] || profile=release
    local what=(-p keyvigil-tests --bin bench-storage)
    [ -n "${KEYVIGIL_BENCH_BIN:-}" ] || what+=(-p keyvigil-aggregator --bin keyvigil-aggregator)
    cargo build --quiet --profile "$profile" --locked "${what[@]}"
    driver=${CARGO_TARGET_DIR:-target}/$profile/bench-storage
    local aggregator=${KEYVIGIL_BENCH_BIN:-${CARGO_TARGET_DIR:-target}/$profile/keyvigil-aggregator}
    aggregator=$(realpath "$aggregator")
    echo "keyvigil            $("$aggregator" --version), $([ -n "${KEYVIGIL_BENCH_BIN:-}" ] && echo "given" || echo "profile $profile"), $(git describe --always --dirty 2>/dev/null || echo "no git")"
    servers+=(--keyvigil "$aggregator")
}

# drive MODE [ARGUMENT...]: runs the driver, to be ended with this script.
drive() {
    "$driver" "$@" --work "$work/servers" "${servers[@]}" &
    child=$!
    local code=0
    wait "$child" || code=$?
    child=
    exit "$code"
}
