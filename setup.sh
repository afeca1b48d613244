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

# Debian packages WHAT NEEDS THEM... without starting their services; without root or apt-get only a note.
install_packages() {
  local what=$1; shift
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "note: $what need root on Debian and are skipped here" >&2; return
  fi
  local policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; made=1; }  # no service is started
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -qq update; apt-get -qq install -y --no-install-recommends "$@"; } >/dev/null 2>&1
  local code=$?; [ -z "$made" ] || rm -f $policy
  [ $code = 0 ] || { echo "error: apt-get could not install what $what need; see apt-get install $1" >&2; return 1; }
}

# A real Slurm for the tests: slurmctld, slurmd, slurmdbd, MariaDB, munge and an sshd, of Debian 12; none is left running.
ensure_slurm() {
  [ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/slurmdbd ] && [ -x /usr/sbin/mariadbd ] && [ -x /usr/sbin/sshd ] && return
  install_packages "the Slurm tests" slurmctld slurmd slurm-client munge slurmdbd mariadb-server openssh-server \
    openssh-client
}

# PostgreSQL for the team server; its programs alone, Debian's own cluster is not started.
ensure_postgres() {
  command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && return
  install_packages "the tests of the team server" postgresql
}

# A browser for the tests of the UI; playwright drives it and brings none of its own.
ensure_chromium() {
  command -v chromium >/dev/null && return
  install_packages "the tests of the UI" chromium
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
