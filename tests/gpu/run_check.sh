#!/usr/bin/env bash
# Run by hand on a machine with a GPU: starts a training command under `oomph run` and looks at everything that is left behind.
#
#   tests/gpu/run_check.sh OOMPH fails -- python case.py …      a command that dies of GPU memory
#   tests/gpu/run_check.sh OOMPH works -- python case.py …      a command that succeeds
#
# Prints PASS or FAIL for each expectation; ends with 1 when one failed. The run is recorded under a folder of its own.
set -uo pipefail
[ $# -ge 4 ] && [ "$3" = -- ] || { sed -n '2,7p' "$0"; exit 2; }
oomph=$1 expected=$2
shift 3
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export XDG_STATE_HOME=$home/state
failed=0
check() {
    local what=$1
    shift
    if "$@"; then echo "PASS  $what"; else echo "FAIL  $what"; failed=1; fi
}
sampled() {
    python3 - "$1" <<'PY'
import sqlite3, sys
c = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
names = [r[0] for r in c.execute("select name from sqlite_master where type='table'")]
for name in sorted(names):
    print(f"      {name}: {c.execute(f'select count(*) from {name}').fetchone()[0]} rows")
PY
}

echo "# the command alone"
"$@" >"$home/alone.out" 2>&1
alone=$?
tail -n 3 "$home/alone.out" | cut -c1-160

echo "# under oomph run"
"$oomph" run --headless --report "$home/report.md" --on-failure "wc -c >$home/told" -- "$@" >"$home/out" 2>"$home/err"
under=$?
check "exit status: alone $alone, under oomph $under" [ "$alone" -eq "$under" ]
check "history names the run" sh -c "'$oomph' history | tee '$home/history' | grep -q ."
cat "$home/history"
check "export as JSON lines" sh -c "'$oomph' export last --format jsonl >'$home/run.jsonl' && [ -s '$home/run.jsonl' ]"
check "export as Markdown" sh -c "'$oomph' export last --format markdown >'$home/run.md' && [ -s '$home/run.md' ]"
check "replay shows its end" sh -c "'$oomph' replay last --once --size 130x36 >'$home/frame'"
cat "$home/frame"
recording=$(find "$XDG_STATE_HOME" -name '*.sqlite' -o -name '*.db' | head -n 1)
echo "recording: ${recording:-none}"
[ -n "$recording" ] && sampled "$recording"
if [ "$expected" = fails ]; then
    check "the command failed" [ "$alone" -ne 0 ]
    check "a report was written" [ -s "$home/report.md" ]
    check "the command for failures had the report" [ "$(cat "$home/told" 2>/dev/null || echo 0)" -gt 0 ]
    check "standard error ends with a diagnosis" grep -qi 'memory' "$home/err"
    echo "--- standard error, from oomph"
    tail -n 40 "$home/err"
    echo "--- report"
    head -n 60 "$home/report.md"
else
    check "the command succeeded" [ "$alone" -eq 0 ]
    check "no report was written" [ ! -e "$home/report.md" ]
fi
exit $failed
