# Sourced by tools/demo and tools/test: makes .venv beside the project, and keeps it while pyproject.toml is the same.
# Usage: make_environment EXTRAS ("" or "[dev]"), in the project's directory. Afterwards .venv/bin has everything.

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

make_environment() {
  local extras=$1 python version wanted
  find_python
  # What an environment is good for: this place, this Python, these dependencies.
  wanted="$PWD $python $version $(cksum < pyproject.toml)"
  if [[ -x .venv/bin/python && -r .venv/made-for ]]; then
    case $(<.venv/made-for) in
      "$wanted $extras" | "$wanted [dev]") return ;;  # one with the extras serves those who want none
    esac
  fi
  echo "making the environment in .venv with Python $version, once: about 15 seconds"
  "$python" -m venv --clear .venv || die "$python could not make a virtual environment in .venv"
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-input --editable ".$extras" ||
    die "pip could not install tcpstack$extras: see the lines above"
  echo "$wanted $extras" > .venv/made-for
}

# Sets python and version to the first that will do: $PYTHON where it is set, else python3 or one beside it.
find_python() {
  local candidates=(python3 python3.14 python3.13 python3.12 python3.11) candidate old= bare=
  [[ -z ${PYTHON-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    command -v "$candidate" >/dev/null || continue
    # A shim may have no Python behind it.
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      old=${old:-$candidate is $version}
    elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      bare=${bare:-python$version-venv}
    else
      python=$(command -v "$candidate")
      return
    fi
  done
  [[ -z $bare ]] || die "this Python can't make virtual environments: install the package $bare (or python3-venv)"
  [[ -z $old ]] || die "$old, and tcpstack needs Python 3.11 or later: install the package python3.11, or set PYTHON"
  [[ -z ${PYTHON-} ]] || die "PYTHON is set to $PYTHON, which is not a Python that runs"
  die "there is no Python here: install the packages python3 and python3-venv (3.11 or later)"
}
