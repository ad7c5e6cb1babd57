#!/usr/bin/env bash
# Reads one long GRPO log with oomph, ripgrep, grep and Python, in the same run, and prints times as ratios.
#   benches/compare.sh [SIZE]        1GiB by default; RUNS=3, TMPDIR for the log, OOMPH for another binary
# The peers extract one value ('reward'); oomph extracts every value of every point, and looks for failures. Seconds are the
# best of RUNS, CPU those of all threads together. At the end: the first frame, and how soon an appended line is shown.
set -eu
cd "$(dirname "$0")/.."
size=${1:-1GiB} runs=${RUNS:-3}
log=${TMPDIR:-/tmp}/oomph-bench-$size.log
oomph=${OOMPH:-}
if [ -z "$oomph" ]; then cargo build --release --quiet; oomph=target/release/oomph; fi
[ -s "$log" ] || cargo bench --quiet --bench trl_log -- "$size" "$log"
cat "$log" > /dev/null  # into the page cache, for everybody

# Best wall time of some runs with its CPU time, and the largest resident size: "seconds seconds kilobytes". Its exit status
# may be 1: something was found, or nothing.
measure() {
  python3 - "$runs" "$@" <<'PY'
import os, subprocess, sys, tempfile, time
best = []
for _ in range(int(sys.argv[1])):
    # A file, for grep stops at the first match when it writes to /dev/null.
    with tempfile.TemporaryFile() as out:
        begin = time.monotonic()
        child = subprocess.Popen(sys.argv[2:], stdout=out, env=dict(os.environ, LC_ALL="C"))
        _, status, used = os.wait4(child.pid, 0)
        best.append((time.monotonic() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss))
    if os.waitstatus_to_exitcode(status) not in (0, 1): sys.exit(f"{sys.argv[2]}: status {status}")
print(*min(best)[:2], max(kilobytes for _, _, kilobytes in best))
PY
}
python='
import json, sys
n = 0
for line in open(sys.argv[1], encoding="utf-8", newline=None):
    if line.startswith("{"):
        n += float(json.loads(line.replace(chr(39), chr(34)))["reward"])
'
base=
row() {
  name=$1; shift
  if ! command -v "$1" > /dev/null; then printf '%-28s %s\n' "$name" "missing: $1 is not installed"; return; fi
  read -r seconds cpu kilobytes < <(measure "$@")
  [ -n "$base" ] || base=$seconds
  awk -v n="$name" -v s="$seconds" -v c="$cpu" -v k="$kilobytes" -v b="$base" -v z="$(stat -c %s "$log")" 'BEGIN {
    printf "%-28s %8.3f s %8.3f s CPU %9.0f MiB/s %8.1f MiB resident  %6.2f x\n", n, s, c, z / s / 1048576, k / 1024, s / b }'
}
echo "$log: $(stat -c %s "$log") bytes, $(grep -c "'reward':" "$log") points; ratios to the first row that ran"
row 'rg -o (one thread)' rg --threads 1 --only-matching --no-line-number "'reward': '[^']*'" "$log"
row 'grep -o' grep -o "'reward': '[^']*'" "$log"
row 'python json' python3 -c "$python" "$log"
row 'oomph metrics' "$oomph" metrics "$log"
row 'oomph metrics --json' "$oomph" metrics --json "$log"
base=
row 'rg -c (one thread)' rg --threads 1 --count "CUDA out of memory" "$log"
row 'oomph diagnose' "$oomph" diagnose "$log"
uptime
exec python3 benches/follow.py "$log" --oomph "$oomph"
