#!/usr/bin/env bash
# The tests with another interpreter: other.sh VERSION INTERPRETER [pytest options]. Its environment
# lives beside its target folder; the engine is a debug build there, so overflow checks run too.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 interpreter=$2
shift 2
environment=target/python$version/environment
requirements=requirements/test.txt
case " $* " in *" --short "*) requirements=requirements/short.txt ;; esac
mkdir -p "target/python$version"
scripts/environment.sh "$environment" "$interpreter" "$requirements"
scripts/engine.sh "$environment" dev
"$environment/bin/python" -m pytest -q tests "$@"
