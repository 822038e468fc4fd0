#!/bin/sh
# Makes the virtual environment and installs the project into it. Does nothing when that was done before with the
# same pyproject.toml and constraints.txt.
#
#   sh scripts/setup.sh all    what the commands and the demo need
#   sh scripts/setup.sh dev    also what the tests and checks need
#   sh scripts/setup.sh neuralprophet    only the forecaster with NeuralProphet; in an environment and with
#                                        constraints of its own, since it needs numpy before 2
#
# From the environment:
#   VENV             where the environment is made            (.venv)
#   PYTHON           the Python that it is made with          (python3, or the newest python3.X that is recent enough)
#   TORCH            the PyTorch that is installed            (torch==2.13.0)
#   TORCH_INDEX_URL  the index that PyTorch comes from, such as PyTorch's own index of CPU builds
#   CONSTRAINTS      the file that pins everything else       (constraints.txt)
set -eu

# Debian packages that a test needs, separated by spaces. The tests' nats-server is a wheel.
SYSTEM_PACKAGES="dbus iproute2 mosquitto openvswitch-switch procps prometheus systemd user-mode-linux"

# Debian starts the services that it installs unless this says no; the tests start their own, on free loopback ports.
POLICY=/usr/sbin/policy-rc.d

MINIMUM="3.11"
VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-python3}"
TORCH="${TORCH:-torch==2.13.0}"
TORCH_INDEX_URL="${TORCH_INDEX_URL:-}"
CONSTRAINTS="${CONSTRAINTS:-constraints.txt}"

say() {
    printf '==> %s\n' "$*"
}

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

is_recent() {
    "$1" -c 'import sys; wanted = tuple(map(int, sys.argv[1].split("."))); sys.exit(sys.version_info < wanted)' \
        "$MINIMUM" 2>/dev/null
}

# Leave in PYTHON one that is recent enough. A Python that was asked for by name is never replaced.
choose_python() {
    if is_recent "$PYTHON"; then
        return
    fi
    if [ "$PYTHON" = python3 ]; then
        for candidate in python3.14 python3.13 python3.12 python3.11; do
            if is_recent "$candidate"; then
                PYTHON="$candidate"
                return
            fi
        done
    fi
    found="$("$PYTHON" --version 2>&1)" || found="no such command"
    die "Python $MINIMUM or newer is needed, but $PYTHON is: $found." \
        "Install one and name it: make PYTHON=python$MINIMUM"
}

# Run a command as root, or say by the exit status that this user may not.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    as_root true || return 1
    say "apt-get install $*"
    # An update may fail for an unrelated source; the installation then tells whether that matters.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update || true
    if [ ! -e "$POLICY" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
        as_root chmod +x "$POLICY"
        trap 'as_root rm -f "$POLICY"' EXIT
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >/dev/null
}

install_system_packages() {
    missing=""
    for package in $SYSTEM_PACKAGES; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086  # a list
        apt_install $missing || die "the tests need system packages; install them and try again:$missing"
    fi
}

has_ensurepip() {
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null
}

# pip can install into another environment since 22.3.
has_pip() {
    "$PYTHON" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (22, 3))' 2>/dev/null
}

# Commands in an environment hold its path, so that one that was moved or copied is of no use.
is_whole() {
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    grep -qF -e "$(cd "$VENV" && pwd)/bin/python" -e "$(cd "$VENV" && pwd -P)/bin/python" "$VENV/bin/pip"
}

make_venv() {
    if is_whole; then
        is_recent "$VENV/bin/python" || die "$VENV has a Python older than $MINIMUM; remove it and try again"
        return
    fi
    if [ -f "$VENV/pyvenv.cfg" ]; then
        say "$VENV is broken, half made or from another place: making it again"
        rm -rf "$VENV"
    fi
    choose_python
    version="$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    say "$VENV: a virtual environment with Python $version, so that nothing of the system is changed"
    if has_ensurepip; then
        "$PYTHON" -m venv "$VENV"
    elif has_pip; then
        "$PYTHON" -m venv --without-pip "$VENV"
        "$PYTHON" -m pip --python "$VENV/bin/python" --quiet --disable-pip-version-check install pip
    elif apt_install "python$version-venv" && has_ensurepip; then
        "$PYTHON" -m venv "$VENV"
    else
        die "$(command -v "$PYTHON") cannot make a virtual environment: its module ensurepip is missing." \
            "Install it as root and try again: apt-get install python$version-venv"
    fi
}

pip_install() {
    "$VENV/bin/python" -m pip --quiet --disable-pip-version-check --no-input install "$@"
}

# PyTorch goes in by itself, from the index that was asked for; what it depends on follows with everything else,
# pinned, from the usual index.
install_project() {
    say "$TORCH: models are trained and solved with it (a large download)"
    if [ -n "$TORCH_INDEX_URL" ]; then
        pip_install --no-deps --index-url "$TORCH_INDEX_URL" "$TORCH"
    else
        pip_install --no-deps "$TORCH"
    fi
    case "$1" in
        all) say "microopt and what its commands need" ;;
        dev) say "microopt, what its commands need, and the tools of tests and checks" ;;
        neuralprophet) say "microopt's forecaster with NeuralProphet" ;;
    esac
    pip_install --constraint "$CONSTRAINTS" --editable ".[$1]"
}

# What the environment was made from; a moved checkout counts as another one.
fingerprint() {
    { cat pyproject.toml "$CONSTRAINTS"; printf '%s\n' "$(pwd -P)" "$TORCH"; } | cksum
}

main() {
    extra="${1:-all}"
    case "$extra" in
        all | dev | neuralprophet) ;;
        *) die "unknown set $extra; known: all, dev, neuralprophet" ;;
    esac
    cd "$(dirname "$0")/.."
    stamp="$VENV/.microopt-$extra"
    wanted="$(fingerprint)"
    if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if [ "$extra" = dev ]; then
        install_system_packages
    fi
    make_venv
    rm -f "$VENV"/.microopt-*
    install_project "$extra"
    if [ "$extra" = dev ]; then
        printf '%s\n' "$wanted" >"$VENV/.microopt-all"
    fi
    printf '%s\n' "$wanted" >"$stamp"
    say "$VENV is ready"
}

main "$@"
