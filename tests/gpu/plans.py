#!/usr/bin/env python3
"""Do oomph's plans make failing runs run? Asks for each plan, changes the case by exactly that, runs it under the same cap.

  plans.py BIN [--corpus DIR] [--cases FILE] [--done FILE...] [--limit SECONDS] [--parallel N] [--open]

* --corpus DIR   measured runs: every ID.log + ID.json + ID.yaml of a trainer that ran out of memory
* --cases FILE   further cases (a JSON list, see README.md); each is first run under its cap, to fail and leave its log
* --done FILE    results of an earlier call; what they hold is not run again
* --open         also runs the unchanged cases that say how much they `need` without a cap, for their true peak and the
                 plan's slowdown; cases without a cap are run only so

Run by hand on a machine with a GPU; never by CI. Leaves results.jsonl (each run as it ends), summary.txt and
logs.tar.gz in $OUT. Exit status 0 when 19 of 20 plans ran.
"""
import argparse, json, os, subprocess, sys, tarfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
GIB = 1 << 30
OUT = os.environ.get("OUT", ".")
LOGS = "/tmp/plan-logs"
SAVED = os.environ.setdefault("SAVED_MODELS", "/tmp/models")
HUB = {"Qwen": "Qwen/", "Llama": "meta-llama/", "SmolLM": "HuggingFaceTB/", "gemma": "google/", "Phi": "microsoft/", "OLMo": "allenai/",
       "Mistral": "mistralai/", "gpt2": "openai-community/", "DeepSeek": "deepseek-ai/"}
# A case's key for each canonical knob, where they differ only in name.
KEYS = {"per_device_train_batch_size": "bs", "gradient_accumulation_steps": "ga", "num_generations": "gens", "max_completion_length": "completion",
        "sequence_length": "seq", "gradient_checkpointing": "gc", "fused_loss": "liger", "lora_rank": "lora", "optimizer": "optim", "beta": "beta",
        "attention": "attn", "per_device_eval_batch_size": "eval_bs", "eval_accumulation_steps": "eval_acc"}


def changed(case, plan):
    """The case after exactly the plan's changes."""
    new = dict(case)
    for knob, value in plan.items():
        if knob in KEYS:
            new[KEYS[knob]] = value
        elif knob == "lora_target_modules":
            new["targets"] = value if value == "all-linear" else value.split(",")
        elif knob == "dtype":
            new["dtype"] = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}[value]
        elif knob == "quantization":
            new["bits"] = {"nf4": 4}[value]
        elif knob == "reference_model" and value is False:
            new["precompute"] = True
        elif knob == "activation_offloading":
            new["offload"] = value
        elif knob == "alloc_conf":
            new["env"] = {"PYTORCH_ALLOC_CONF": value, "PYTORCH_CUDA_ALLOC_CONF": value}
        else:
            raise SystemExit(f"{case['id']}: no way to change {knob}={value}")
    return new


def config(case):
    """The case as its user would have written it: a YAML file, and the options for what no file holds."""
    name = next((hub for start, hub in HUB.items() if case["model"].startswith(start)), "") + case["model"]
    name = "TinyLlama/TinyLlama-1.1B-Chat-v1.0" if case["model"].startswith("TinyLlama") else name
    word = lambda v: str(v).lower() if isinstance(v, bool) else v
    y = {"model_name_or_path": name, "dtype": {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[case.get("dtype", "bf16")],
         "attn_implementation": case.get("attn", "sdpa"), "per_device_train_batch_size": case.get("bs", 8), "gradient_accumulation_steps": case.get("ga", 1),
         "gradient_checkpointing": case.get("gc", True), "optim": case.get("optim", "adamw_torch"), "bf16": case.get("autocast", True),
         "max_steps": case.get("steps", 2), "learning_rate": 1e-06, "logging_steps": 1, "seed": 1}
    if case.get("liger"):
        y["use_liger_kernel"] = True
    if case.get("packing"):
        y.update(packing=True, packing_strategy=case["packing"])
    if case.get("lora"):
        targets = case.get("targets", "all-linear")
        y.update(use_peft=True, lora_r=case["lora"], lora_alpha=2 * case["lora"], lora_target_modules=targets if isinstance(targets, str) else "[" + ", ".join(targets) + "]")
        if case.get("dropout"):
            y["lora_dropout"] = case["dropout"]
    if case.get("bits"):
        y.update(load_in_4bit=True, bnb_4bit_quant_type="nf4", use_bnb_nested_quant=True)
    if case.get("eval_bs"):
        y.update(eval_strategy="steps", per_device_eval_batch_size=case["eval_bs"])
    if case.get("precompute"):
        y["precompute_ref_log_probs"] = True
    if case.get("offload"):
        y["activation_offloading"] = True
    if case.get("eval_acc"):
        y["eval_accumulation_steps"] = case["eval_acc"]
    method, trainer = case["method"], "trl"
    options = {}
    if method in ("grpo", "rloo"):
        y.update(num_generations=case.get("gens", 8), max_completion_length=case["completion"], beta=case.get("beta", 0))
        options["prompt_length"] = case["prompt"]
    elif method == "hf":
        method, trainer = "sft", "transformers"
        options["sequence_length"] = case["seq"]
    else:
        y["max_length"] = case["seq"]
    args = ["--method", method, "--set", f"trainer={trainer}", "--set", "transformers_version=5.17.0", "--set", "torch_version=2.11.0", "--gpu", "H200"]
    if trainer == "trl":
        args += ["--set", "trl_version=1.16.0"]
    for knob, value in options.items():
        args += ["--set", f"{knob}={value}"]
    return "".join(f"{k}: {word(v)}\n" for k, v in y.items()), args


class Runner:
    def __init__(self, args):
        self.args, self.start = args, time.time()
        self.lock, self.room = threading.Condition(), args.card - 4.0
        self.results = {}
        for path in args.done:
            for line in open(path):
                r = json.loads(line)
                self.results[r["run"]] = r
        self.file = open(os.path.join(OUT, "results.jsonl"), "a")
        self.saving, self.later, self.busy = {}, [], 0
        os.makedirs(LOGS, exist_ok=True)

    def left(self):
        return self.args.limit - (time.time() - self.start)

    def keep(self, result):
        with self.lock:
            self.results[result["run"]] = result
            self.file.write(json.dumps(result) + "\n")
            self.file.flush()
        g = lambda v: f"{v / GIB:6.2f}" if v else "     -"
        print(f"{time.time() - self.start:5.0f}s {result['run']:<44} {'ran   ' if result.get('ok') else 'FAILED'} allocated {g(result.get('allocated'))} reserved {g(result.get('reserved'))} device {g(result.get('device'))}  {result.get('last_phase') or ''} {result.get('message', '')[:90]!r}", flush=True)

    def save(self, case):
        """Writes a model's random weights to disk once, for what must be loaded from there."""
        with self.lock:
            mine = case["model"] not in self.saving
            done = self.saving.setdefault(case["model"], threading.Event())
        if mine:
            if not os.path.exists(f"{SAVED}/{case['model']}/config.json"):
                self.spawn({"id": "save-" + case["model"], "method": "save", "model": case["model"]}, 200)
            done.set()
        done.wait()

    def spawn(self, case, limit):
        env = dict(os.environ, TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS="2", PYTHONUNBUFFERED="1", **case.get("env", {}))
        log, ballast = f"{LOGS}/{case['id']}.log", None
        if case.get("ballast"):
            hold = f"import torch,time; f,_=torch.cuda.mem_get_info(); x=torch.empty(int(f-{case['cap']}*2**30),dtype=torch.uint8,device='cuda'); print('ready',flush=True); time.sleep(400)"
            ballast = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
            ballast.stdout.readline()
        with open(log, "wb") as f:
            child = subprocess.Popen([sys.executable, os.path.join(HERE, "case.py"), json.dumps(case)], stdout=f, stderr=subprocess.STDOUT, env=env)
            try:
                child.wait(timeout=max(5, min(limit, self.left() - 12)))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if ballast:
            ballast.kill()
            ballast.wait()
        body = open(log, "rb").read()
        at = body.rfind(b"@@RESULT ")
        if at < 0:
            tail = body.decode(errors="replace").strip().splitlines()
            return {"ok": False, "message": "no result: " + (tail[-1] if tail else "killed at the time limit")}, log
        open(log, "wb").write(body[:at])
        return json.loads(body[at + 9 :].split(b"\n", 1)[0]), log

    def once(self, run, case, need):
        """Runs a case under a name, unless an earlier call did; waits until the card has room for it."""
        if run in self.results:
            return self.results[run]
        if case.get("bits") or case.get("beta"):
            self.save(case)
        with self.lock:
            while self.room < need and self.room < self.args.card - 4.5:
                self.lock.wait(2)
            self.room -= need
        try:
            if self.left() < 35:
                return None
            result, log = self.spawn(dict(case, id=run), 170)
        finally:
            with self.lock:
                self.room += need
                self.lock.notify_all()
        text, options = config(case)
        result.update(run=run, case=case, config=text, args=options)
        result.pop("id", None)
        if "time limit" not in result.get("message", ""):
            self.keep(result)
        return result

    def plan(self, case, log, files=None):
        """What `oomph diagnose` plans for the log of a failing case."""
        text, options = files or config(case)
        path = f"{LOGS}/{case['id']}.yaml"
        open(path, "w").write(text)
        p = subprocess.run([self.args.binary, "diagnose", "--json", log, "--config", path] + options, capture_output=True, timeout=60)
        failures = json.loads(p.stdout)["failures"]
        return failures[0]["plan"] if failures else None

    def case(self, case, log=None, files=None):
        name, cap = case["id"], case["cap"]
        if log is None:
            first = self.once(name + ".fail", dict(case, ballast=False), cap + 1)
            if first is None:
                return
            if first["ok"]:
                print(f"      {name} runs under its cap: not a failing case", flush=True)
                return
            log = f"{LOGS}/{name}.fail.log"
            if not os.path.exists(log):
                return
        run = name + ".plan"
        if run not in self.results:
            plan = self.plan(case, log, files)
            if not plan or not plan.get("changes"):
                return self.keep({"run": run, "ok": False, "case": case, "message": "no plan", "plan": plan})
            new = changed(case, plan["changes"])
            print(f"      {name}: {plan['changes']} predicted {plan['predicted_peak_bytes'] / GIB:.2f} {plan['verdict']}", flush=True)
            done = self.once(run, dict(new, plan=plan["changes"], predicted=plan["predicted_peak_bytes"], verdict=plan["verdict"]), cap + 1)
            if done is None:
                return
        if self.args.open and case.get("need"):
            self.later.append((self.open, (case,)))

    def open(self, case):
        """The unchanged case without a cap: its true peak."""
        self.once(case["id"] + ".open", dict(case, cap=None, ballast=False), case.get("need", 1.6 * (case.get("cap") or 12)) + 1)

    def work(self, todo):
        while self.left() > 45:
            with self.lock:
                job = todo.pop(0) if todo else self.later.pop(0) if self.later else None
                if job is None and not self.busy:
                    return
                self.busy += job is not None
            if job is None:
                time.sleep(0.5)
                continue
            try:
                job[0](*job[1])
            except Exception as e:
                print(f"      {job[1][0]['id']}: {type(e).__name__}: {e}", flush=True)
            with self.lock:
                self.busy -= 1


def corpus(folder):
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".json"):
            continue
        r, stem = json.load(open(f"{folder}/{name}")), f"{folder}/{name[:-5]}"
        case = r.get("case") or {}
        if r.get("ok") is False and case.get("cap") and case.get("model") and os.path.exists(stem + ".yaml") and case.get("method") in ("grpo", "sft", "dpo", "hf") and not case.get("old"):
            yield dict(case, id=r["id"]), stem + ".log", (open(stem + ".yaml").read(), r["estimate_args"])


def estimate(binary, result):
    """The prediction for a run as it was: allocated and device peak."""
    path = f"{LOGS}/estimate.yaml"
    open(path, "w").write(result["config"])
    p = subprocess.run([binary, "estimate", "--json", "--config", path] + result["args"], capture_output=True, timeout=60)
    try:
        return json.loads(p.stdout)["peak"]
    except ValueError:
        return None


def summary(runner):
    """How many plans ran, the slowdown, and predicted against measured peaks."""
    lines, ran, plans, slow, errors = [], 0, 0, [], []
    for run, r in sorted(runner.results.items()):
        if run.endswith(".plan"):
            plans += 1
            ran += bool(r.get("ok"))
            before = runner.results.get(run[:-5] + ".open") or {}
            factor = None
            if r.get("ok") and r.get("step_seconds") and before.get("ok") and before.get("step_seconds"):
                factor = r["step_seconds"][-1] / max(before["step_seconds"][-1], 1e-3)
                slow.append(factor)
            predicted = (r.get("case") or {}).get("predicted") or 0
            of = r.get("device" if (r.get("case") or {}).get("ballast") else "reserved") or 0
            lines.append(f"{run:<44} {'ran' if r.get('ok') else 'FAILED':<7} predicted {predicted / GIB:6.2f} measured {of / GIB:6.2f} of {(r.get('case') or {}).get('cap')} GiB{f', {factor:.2f} x the time' if factor else ''}  {(r.get('case') or {}).get('plan')}")
        if r.get("ok") and r.get("config") and r.get("retries") == 0:
            peak = estimate(runner.args.binary, r)
            if peak:
                allocated, device = peak["allocated_bytes"] / r["allocated"] - 1, peak["device_bytes"] / r["device"] - 1
                errors.append((allocated, device, peak["low_bytes"] <= r["device"] <= peak["high_bytes"]))
                if run.endswith(".open") or abs(device) > 0.05:
                    lines.append(f"{run:<44} allocated {allocated:+6.1%} of {r['allocated'] / GIB:6.2f}, device {device:+6.1%} of {r['device'] / GIB:6.2f} GiB")
    lines.append(f"{ran} of {plans} plans ran")
    if slow:
        lines.append(f"slowdown: median {sorted(slow)[len(slow) // 2]:.2f}, worst {max(slow):.2f} (one step each, several runs side by side)")
    if errors:
        mean = lambda n: sum(abs(e[n]) for e in errors) / len(errors)
        lines.append(f"{len(errors)} peaks: allocated {mean(0):.1%} mean, {max(abs(e[0]) for e in errors):.1%} worst; device {mean(1):.1%} mean, {max(abs(e[1]) for e in errors):.1%} worst; interval covers {sum(e[2] for e in errors) / len(errors):.0%}")
    return "\n".join(lines), plans and ran / plans >= 0.95


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("binary")
    a.add_argument("--corpus")
    a.add_argument("--cases")
    a.add_argument("--done", nargs="*", default=[])
    a.add_argument("--only", nargs="*", help="ids of cases")
    a.add_argument("--limit", type=float, default=3600)
    a.add_argument("--parallel", type=int, default=8)
    a.add_argument("--card", type=float, default=138, help="GiB of the card")
    a.add_argument("--open", action="store_true")
    runner = Runner(a.parse_args())
    args = runner.args
    todo = [(c, log, files) for c, log, files in (corpus(args.corpus) if args.corpus else [])]
    todo += [(c, None, None) for c in (json.load(open(args.cases)) if args.cases else [])]
    if args.only:
        todo = [t for t in todo if t[0]["id"] in args.only]
    alone = [(runner.case, t) for t in todo if t[0].get("ballast")]
    if args.open:
        runner.later += [(runner.open, (t[0],)) for t in todo if not t[0].get("cap")]
    todo = [(runner.case, t) for t in todo if t[0].get("cap") and not t[0].get("ballast")]
    threads = [threading.Thread(target=runner.work, args=(todo,)) for _ in range(args.parallel)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    # A case whose card is filled by another process has the card for itself.
    args.open = False
    runner.work(alone)
    text, good = summary(runner)
    print(text, flush=True)
    open(os.path.join(OUT, "summary.txt"), "w").write(text + "\n")
    with tarfile.open(os.path.join(OUT, "logs.tar.gz"), "w:gz") as t:
        t.add(LOGS, arcname="logs")
    sys.exit(0 if good else 1)


main()
