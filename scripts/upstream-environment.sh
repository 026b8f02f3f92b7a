# Sourced by the upstream scripts: `prepare MODULE` finds $PYTHON, sets $version, and makes $environment
# with the engine in it. Ends the script with a line where the interpreter lacks the test MODULE.
prepare() {
    local interpreter
    interpreter=$(command -v "${PYTHON:-python3}") || { echo "missing: $PYTHON"; exit 1; }
    version=$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$interpreter" -c "import test.$1" 2>/dev/null; then
        echo "skipped: $interpreter has no package \`test\` (on Debian and Ubuntu: apt-get install libpython$version-testsuite)"
        exit 0
    fi
    environment=.venv
    if [ "$version" != "$("$environment/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" ]; then
        environment=target/python$version/environment
    fi
    mkdir -p target/upstream "target/python$version"
    scripts/environment.sh "$environment" "$interpreter" requirements/test.txt || exit 1
    scripts/engine.sh "$environment" || exit 1
}
