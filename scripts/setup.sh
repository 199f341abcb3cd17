# shellcheck shell=bash
# What scripts/run and scripts/test need, installed where it is missing. Sourced by both; a second time it changes nothing.
#
# Afterwards: the working folder is the project's, $TOOLS holds yt-dlp and deno and is on the PATH.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
ROOT=$PWD
TOOLS=$ROOT/.tools/bin

# From PyPI, since the distribution's yt-dlp is too old to be let near the internet. `default` brings its JavaScript parts.
PYTHON_TOOLS=('yt-dlp[default]>=2026.7.4' 'deno')

say() { printf '\n== %s\n' "$*" >&2; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

compiles() { echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null 2>/dev/null; }

makes_venvs() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# Prints the Debian packages that are missing, for what is built here and for what runs.
missing_packages() {
  compiles || echo gcc libc6-dev
  makes_venvs || echo python3-venv
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  local program
  for program in make cmake pkg-config ffmpeg curl "$@"; do
    [ -n "$(type -P "${program#*:}")" ] || echo "${program%:*}"
  done
}

# setup_packages [PACKAGE:PROGRAM]…: the common ones, and each further package whose program is missing.
setup_packages() {
  local packages as_root=()
  mapfile -t packages < <(missing_packages "$@" | tr ' ' '\n')
  [ ${#packages[@]} -gt 0 ] || return 0
  local by_hand="apt-get install -y --no-install-recommends ${packages[*]}"
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
  if [ -z "$(type -P apt-get)" ] || ! "${as_root[@]}" true 2>/dev/null; then
    fail "these packages are missing: ${packages[*]}
Install them, on Debian as root with:
  $by_hand"
  fi
  say "installing ${packages[*]}"
  "${as_root[@]}" apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >&2
}

setup_rust() {
  PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if [ -z "$(type -P cargo)" ]; then
    fail "cargo is missing. Install Rust $wanted or newer, as https://rustup.rs says:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default"
  fi
  found=$(rustc --version | cut -d ' ' -f 2)
  if [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
    fail "Rust $found is too old, $wanted is needed. With rustup: rustup update stable"
  fi
}

# A folder of Python tools, made anew when what it should hold, or where it lies, has changed.
setup_python_tools() {
  local stamp=.tools/stamp wanted
  wanted=$(printf '%s\n' "$ROOT" "${PYTHON_TOOLS[@]}")
  if [ -x "$TOOLS/yt-dlp" ] && [ -x "$TOOLS/deno" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return 0
  fi
  say "installing ${PYTHON_TOOLS[*]} into .tools"
  rm -f "$stamp"
  mkdir -p "$TOOLS"
  python3 -m venv --clear .tools/venv
  .tools/venv/bin/pip install --quiet --disable-pip-version-check "${PYTHON_TOOLS[@]}" >&2
  ln -sfn ../venv/bin/yt-dlp "$TOOLS/yt-dlp"
  ln -sfn ../venv/bin/deno "$TOOLS/deno"
  "$TOOLS/yt-dlp" --version >/dev/null
  printf '%s\n' "$wanted" >"$stamp"
}

setup() {
  setup_packages "$@"
  setup_rust
  setup_python_tools
  PATH=$TOOLS:$PATH
}
