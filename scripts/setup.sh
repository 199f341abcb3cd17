# shellcheck shell=bash
# Installs whatever scripts/run, scripts/test and scripts/suites need and is missing. They source it; a second time it changes nothing.
#
# Afterwards the project is the working folder, and $TOOLS contains yt-dlp and deno and is in PATH.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
ROOT=$PWD
TOOLS=$ROOT/.tools/bin

# From PyPI, because the distribution's yt-dlp is too old to be exposed to the internet. `default` includes its JavaScript parts.
PYTHON_TOOLS=('yt-dlp[default]>=2026.7.4' 'deno')

say() { printf '\n== %s\n' "$*" >&2; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# keep_telling WHAT COMMAND…: runs the command, and reports every 20 seconds that it is still running, because a large crate compiles silently.
keep_telling() {
  local what=$1 begin=$SECONDS ticker code=0
  shift
  while sleep 20 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    printf '   %s: %s s so far\n' "$what" $((SECONDS - begin)) >&2
  done &
  ticker=$!
  "$@" || code=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  return "$code"
}

compiles() { echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null 2>/dev/null; }

# Prints cargo's build folder.
target_folder() { realpath -m "${CARGO_TARGET_DIR:-target}"; }

# Prints a Python that can create virtual environments and is new enough for yt-dlp. The system's comes first, because other accounts cannot
# run one in another user's home folder.
python_for_venvs() {
  local python
  for python in /usr/bin/python3 python3; do
    if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      type -P "$python"
      return 0
    fi
  done
  return 1
}

# Prints the missing Debian packages that the build or the program needs.
missing_packages() {
  compiles || echo gcc libc6-dev
  python_for_venvs >/dev/null || echo python3-venv
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  local program
  for program in make cmake pkg-config ffmpeg curl "$@"; do
    [ -n "$(type -P "${program#*:}")" ] || echo "${program%:*}"
  done
}

# install_packages PACKAGE…: installs them with apt-get, as root; fails if that is not possible.
install_packages() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
  if [ -z "$(type -P apt-get)" ] || ! "${as_root[@]}" true 2>/dev/null; then return 1; fi
  "${as_root[@]}" apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# setup_packages [PACKAGE:PROGRAM]…: installs the common packages, and each further one whose program is missing.
setup_packages() {
  local packages
  mapfile -t packages < <(missing_packages "$@" | tr ' ' '\n')
  [ ${#packages[@]} -gt 0 ] || return 0
  say "installing ${packages[*]}"
  install_packages "${packages[@]}" || fail "these packages are missing: ${packages[*]}
Install them, on Debian as root with:
  apt-get install -y --no-install-recommends ${packages[*]}"
}

# setup_optional_packages [PACKAGE:PROGRAM]…: installs what is missing, if possible.
setup_optional_packages() {
  local entry packages=()
  for entry; do
    [ -n "$(type -P "${entry#*:}")" ] || packages+=("${entry%:*}")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  say "installing ${packages[*]}"
  install_packages "${packages[@]}" && return 0
  for entry in "${packages[@]}"; do
    install_packages "$entry" || echo "SKIPPED: ${entry} cannot be installed here" >&2
  done
}

setup_rust() {
  PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if [ -z "$(type -P cargo)" ]; then
    fail "cargo is missing. Install Rust $wanted or newer as described at https://rustup.rs:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default"
  fi
  found=$(rustc --version | cut -d ' ' -f 2)
  if [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
    fail "Rust $found is too old; $wanted or newer is needed. With rustup: rustup update stable"
  fi
}

# setup_venv FOLDER TOOL…: installs Python tools into a folder, and again if the list of tools or the folder's path has changed.
setup_venv() {
  local folder=$1 python wanted
  shift
  python=$(python_for_venvs) || fail "no Python 3.10 or newer with the venv module was found"
  wanted=$(printf '%s\n' "$ROOT" "$python" "$@")
  if [ -x "$folder/bin/pip" ] && [ "$(cat "$folder/stamp" 2>/dev/null)" = "$wanted" ]; then
    return 0
  fi
  say "installing $* into $folder"
  "$python" -m venv --clear "$folder" &&
    "$folder/bin/pip" install --disable-pip-version-check "$@" >&2 &&
    printf '%s\n' "$wanted" >"$folder/stamp"
}

setup_python_tools() {
  setup_venv .tools/venv "${PYTHON_TOOLS[@]}"
  mkdir -p "$TOOLS"
  ln -sfn ../venv/bin/yt-dlp "$TOOLS/yt-dlp"
  ln -sfn ../venv/bin/deno "$TOOLS/deno"
}

setup() {
  setup_packages "$@"
  setup_rust
  setup_python_tools
  PATH=$TOOLS:$PATH
}
