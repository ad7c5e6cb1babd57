#!/usr/bin/env bash
# Reads one long GRPO log with oomph, ripgrep, grep and Python, in the same run, and prints times as ratios.
#   benches/compare.sh [SIZE]        1GiB by default; RUNS=3, TMPDIR for the log, OOMPH for another binary
# The peers extract one value ('reward'); oomph extracts every value of every point.
set -eu
cd "$(dirname "$0")/.."
size=${1:-1GiB} runs=${RUNS:-3}
log=${TMPDIR:-/tmp}/oomph-bench-$size.log
oomph=${OOMPH:-}
if [ -z "$oomph" ]; then cargo build --release --quiet; oomph=target/release/oomph; fi
[ -s "$log" ] || cargo bench --quiet --bench trl_log -- "$size" "$log"
cat "$log" > /dev/null  # into the page cache, for everybody

# Best wall time of some runs, and the largest resident size: "seconds kilobytes".
measure() {
  python3 - "$runs" "$@" <<'PY'
import os, resource, subprocess, sys, tempfile, time
best = float("inf")
for _ in range(int(sys.argv[1])):
    # A file, for grep stops at the first match when it writes to /dev/null.
    with tempfile.TemporaryFile() as out:
        begin = time.monotonic()
        code = subprocess.run(sys.argv[2:], stdout=out, env=dict(os.environ, LC_ALL="C")).returncode
        best = min(best, time.monotonic() - begin)
    if code: sys.exit(f"{sys.argv[2]}: exit {code}")
print(f"{best:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
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
  read -r seconds kilobytes < <(measure "$@")
  [ -n "$base" ] || base=$seconds
  awk -v n="$name" -v s="$seconds" -v k="$kilobytes" -v b="$base" -v z="$(stat -c %s "$log")" 'BEGIN {
    printf "%-28s %8.3f s %9.0f MiB/s %8.1f MiB resident  %6.2f x\n", n, s, z / s / 1048576, k / 1024, s / b }'
}
echo "$log: $(stat -c %s "$log") bytes, $(grep -c "'reward':" "$log") points; ratios to the first row that ran"
row 'rg -o (one thread)' rg --threads 1 --only-matching --no-line-number "'reward': '[^']*'" "$log"
row 'grep -o' grep -o "'reward': '[^']*'" "$log"
row 'python json' python3 -c "$python" "$log"
row 'oomph metrics' "$oomph" metrics "$log"
row 'oomph metrics --json' "$oomph" metrics --json "$log"
