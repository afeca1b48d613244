# Sourced by ./run and ./test: makes .venv and installs this project into it, once per change of pyproject.toml.
# PYTHON chooses the interpreter; pip's own settings (mirrors, proxies, find-links) are respected.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

find_python() {
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
    then echo "$candidate"; return; fi
  done
  echo "error: no Python 3.11-3.13 with venv found; install one (Debian: apt-get install python3-venv) or set PYTHON=" >&2
  return 1
}

ensure_environment() {
  local extras=$1 stamp=.venv/.installed-$1
  if [ -e "$stamp" ] && [ "$stamp" -nt pyproject.toml ]; then return; fi
  local python; python=$(find_python) || return 1
  [ -x .venv/bin/python ] || "$python" -m venv .venv || return 1
  echo "installing nemotron-flows[$extras] into .venv (a few minutes the first time)" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$extras]" || return 1
  touch "$stamp"
}
