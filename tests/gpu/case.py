"""Runs one training case on a GPU and prints what it took: one JSON line after '@@RESULT '.

The case is a JSON object in argv[1] (README.md lists its keys). Weights are random, for memory does not depend on their
values; architecture, trainer and kernels are the real ones.
"""
import json, os, random, sys, threading, time, traceback

C = json.loads(sys.argv[1])
t0 = time.time()
import torch  # noqa: E402

GIB = 1 << 30
SAVED = os.environ.get("SAVED_MODELS", "/tmp/models")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# hidden, layers, heads, kv heads, head dim, intermediate, vocabulary, tied, family
MODELS = {
    "Qwen2.5-0.5B": (896, 24, 14, 2, 64, 4864, 151936, True, "Qwen2"),
    "Qwen2.5-1.5B": (1536, 28, 12, 2, 128, 8960, 151936, True, "Qwen2"),
    "Qwen2.5-3B": (2048, 36, 16, 2, 128, 11008, 151936, True, "Qwen2"),
    "Qwen2.5-7B": (3584, 28, 28, 4, 128, 18944, 152064, False, "Qwen2"),
    "Qwen2.5-14B": (5120, 48, 40, 8, 128, 13824, 152064, False, "Qwen2"),
    "Qwen3-0.6B": (1024, 28, 16, 8, 128, 3072, 151936, True, "Qwen3"),
    "Qwen3-1.7B": (2048, 28, 16, 8, 128, 6144, 151936, True, "Qwen3"),
    "Qwen3-4B": (2560, 36, 32, 8, 128, 9728, 151936, True, "Qwen3"),
    "Llama-3.2-1B": (2048, 16, 32, 8, 64, 8192, 128256, True, "Llama"),
    "Llama-3.2-3B": (3072, 28, 24, 8, 128, 8192, 128256, True, "Llama"),
    "Llama-3.1-8B": (4096, 32, 32, 8, 128, 14336, 128256, False, "Llama"),
    "SmolLM2-360M": (960, 32, 15, 5, 64, 2560, 49152, True, "Llama"),
    "SmolLM2-1.7B": (2048, 24, 32, 32, 64, 8192, 49152, True, "Llama"),
    "TinyLlama-1.1B": (2048, 22, 32, 4, 64, 5632, 32000, False, "Llama"),
    "gemma-3-1b-it": (1152, 26, 4, 1, 256, 6912, 262144, True, "Gemma3Text"),
    "gemma-2-2b": (2304, 26, 8, 4, 256, 9216, 256000, True, "Gemma2"),
    "Phi-4-mini-instruct": (3072, 32, 24, 8, 128, 8192, 200064, True, "Phi3"),
    "OLMo-2-0425-1B": (2048, 16, 16, 16, 128, 8192, 100352, False, "Olmo2"),
    "OLMo-2-1124-7B": (4096, 32, 32, 32, 128, 11008, 100352, False, "Olmo2"),
    "Qwen3-8B": (4096, 36, 32, 8, 128, 12288, 151936, False, "Qwen3"),
    "DeepSeek-R1-Distill-Qwen-1.5B": (1536, 28, 12, 2, 128, 8960, 151936, False, "Qwen2"),
    "SmolLM2-135M": (576, 30, 9, 3, 64, 1536, 49152, True, "Llama"),
    "SmolLM3-3B": (2048, 36, 16, 4, 128, 11008, 128256, True, "SmolLM3"),
    "Mistral-7B-v0.3": (4096, 32, 32, 8, 128, 14336, 32768, False, "Mistral"),
    "Phi-3-mini-4k-instruct": (3072, 32, 32, 32, 96, 8192, 32064, False, "Phi3"),
    "gemma-3-4b-it": (2560, 34, 8, 4, 256, 10240, 262208, True, "Gemma3Text"),
    "gpt2-medium": (1024, 24, 16, 16, 64, 4096, 50257, True, "GPT2"),
}


class Watch(threading.Thread):
    """Samples what NVML says of this process and of the card."""

    def __init__(self):
        super().__init__(daemon=True)
        import pynvml

        self.nvml = pynvml
        pynvml.nvmlInit()
        self.card = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.process = self.device = 0
        self.stop = False

    def run(self):
        while not self.stop:
            try:
                for p in self.nvml.nvmlDeviceGetComputeRunningProcesses(self.card):
                    if p.pid == os.getpid() and p.usedGpuMemory:
                        self.process = max(self.process, p.usedGpuMemory)
                self.device = max(self.device, self.nvml.nvmlDeviceGetMemoryInfo(self.card).used)
            except Exception:
                pass
            time.sleep(0.02)


PHASES = {}


def allocated_peak():
    """Folds the running peaks into the whole run's and starts new ones."""
    PHASES["_peak"] = max(PHASES.get("_peak", 0), torch.cuda.max_memory_allocated())
    PHASES["_reserved"] = max(PHASES.get("_reserved", 0), torch.cuda.max_memory_reserved())
    torch.cuda.reset_peak_memory_stats()


def phase(name, call):
    """Wraps a call so that its own peak of allocated memory is kept under a name; inner phases take their share away."""

    def wrapped(*a, **k):
        torch.cuda.synchronize()
        allocated_peak()
        before = torch.cuda.memory_allocated()
        PHASES["_now"] = name
        try:
            return call(*a, **k)
        finally:
            torch.cuda.synchronize()
            peak, seen = torch.cuda.max_memory_allocated(), PHASES.setdefault(name, {"peak": 0})
            if peak >= seen["peak"]:
                seen.update(peak=peak, before=before, after=torch.cuda.memory_allocated())
            allocated_peak()

    return wrapped


def trace(path):
    """Every request to PyTorch's allocator and every block given back, in order: `a SIZE ID`, `f ID`, `s SIZE` (a new segment)."""
    import gzip

    ids, lines = {}, []
    for e in torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]:
        action, at = e["action"], e.get("addr")
        if action == "alloc":
            ids[at] = len(lines)
            lines.append(f"a {e['size']} {len(lines)} {e.get('stream', 0)}")
        elif action == "free_requested":
            lines.append(f"f {ids.get(at, -1)}")
        elif action in ("segment_alloc", "segment_free"):
            lines.append(f"{'s' if action == 'segment_alloc' else 'S'} {e['size']}")
    with gzip.open(path, "wt") as f:
        f.write("\n".join(lines))


def architecture():
    import transformers

    hidden, layers, heads, kv, head_dim, mlp, vocabulary, tied, family = MODELS[C["model"]]
    if family == "GPT2":
        config = transformers.GPT2Config(n_embd=hidden, n_layer=layers, n_head=heads, vocab_size=vocabulary, bos_token_id=1, eos_token_id=2, pad_token_id=0)
        config._attn_implementation = C.get("attn", "sdpa")
        return config
    extra = {} if family in ("Qwen2", "Phi3", "Olmo2") else {"head_dim": head_dim}
    config = getattr(transformers, family + "Config")(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=mlp,
        vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=32768, bos_token_id=1, eos_token_id=2, pad_token_id=0, **extra)
    config._attn_implementation = C.get("attn", "sdpa")
    return config


def model():
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    dtype = DTYPES[C.get("dtype", "bf16")]
    if C.get("bits") == 4:
        from transformers import BitsAndBytesConfig

        four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_use_double_quant=True)
        return AutoModelForCausalLM.from_pretrained(f"{SAVED}/{C['model']}", quantization_config=four, dtype=torch.bfloat16, device_map={"": 0}, attn_implementation=C.get("attn", "sdpa"))
    kind, config = AutoModelForCausalLM, architecture()
    if C["method"] == "reward":
        kind, config.num_labels = AutoModelForSequenceClassification, 1
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda"):
            return kind.from_config(config, dtype=dtype).to(dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: n for n, w in enumerate(["<pad>", "<s>", "</s>", "<unk>"] + [f"w{n}" for n in range(4, 4000)])}
    t = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_input_names=["input_ids", "attention_mask"])


def words(count, seed):
    r = random.Random(seed)
    return " ".join(f"w{r.randrange(4, 4000)}" for _ in range(count))


def adapters():
    if not C.get("lora"):
        return None
    from peft import LoraConfig

    return LoraConfig(r=C["lora"], lora_alpha=2 * C["lora"], lora_dropout=C.get("dropout", 0.0), task_type="CAUSAL_LM" if C["method"] != "reward" else "SEQ_CLS", target_modules=C.get("targets", "all-linear"))


def arguments():
    a = dict(output_dir="/tmp/out-" + C["id"], per_device_train_batch_size=C.get("bs", 8), gradient_accumulation_steps=C.get("ga", 1),
             max_steps=C.get("steps", 2), logging_steps=1, save_strategy="no", report_to=[], bf16=C.get("autocast", True),
             gradient_checkpointing=C.get("gc", True), optim=C.get("optim", "adamw_torch"), learning_rate=1e-6, seed=1)
    if C.get("liger"):
        a["use_liger_kernel"] = True
    if C.get("eval_bs"):
        a.update(eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=C["eval_bs"])
    if C.get("precompute"):
        a["precompute_ref_log_probs"] = True
    if C.get("offload"):
        a["activation_offloading"] = True
    if C.get("eval_acc"):
        a["eval_accumulation_steps"] = C["eval_acc"]
    return a


def trainer():
    from datasets import Dataset

    import trl

    method, tok, length = C["method"], tokenizer(), C.get("seq")
    rows = max(64, 4 * C.get("bs", 8) * C.get("ga", 1))

    def build(make, config, row, net=None, **more):
        data = Dataset.from_list([row(n) for n in range(rows)])
        held = {"eval_dataset": Dataset.from_list([row(n) for n in range(C.get("eval_rows", 64))])} if C.get("eval_bs") else {}
        return make(model=net if net is not None else model(), args=config, train_dataset=data, processing_class=tok, peft_config=adapters(), **held, **more)

    if method in ("grpo", "rloo"):
        name = method.upper()
        config = getattr(trl, name + "Config")(**arguments(), num_generations=C.get("gens", 8), max_completion_length=C["completion"], beta=C.get("beta", 0.0))
        if C.get("beta"):
            # The reference model is loaded from where the policy is.
            config.model_init_kwargs = {"dtype": {"bf16": "bfloat16", "fp32": "float32"}[C.get("dtype", "bf16")]}
            net = f"{SAVED}/{C['model']}"
        else:
            net = model()
            net.generation_config.eos_token_id = None
        return build(getattr(trl, name + "Trainer"), config, lambda n: {"prompt": words(C["prompt"], n)}, net, reward_funcs=rewards)
    if method == "sft":
        return build(trl.SFTTrainer, trl.SFTConfig(**arguments(), max_length=length, **({"packing": True, "packing_strategy": C["packing"]} if C.get("packing") else {})), lambda n: {"text": words(length + 8, n)})
    half = (length or 2) // 2
    reference = lambda: None if C.get("lora") or C.get("precompute") else model()
    if method == "dpo":
        row = lambda n: {"prompt": words(half, n), "chosen": " " + words(half, n + 7), "rejected": " " + words(half, n + 9)}
        return build(trl.DPOTrainer, trl.DPOConfig(**arguments(), max_length=length), row, ref_model=reference())
    if method == "kto":
        row = lambda n: {"prompt": words(half, n), "completion": " " + words(half, n + 7), "label": n % 2 == 0}
        return build(trl.KTOTrainer, trl.KTOConfig(**arguments(), max_length=length), row, ref_model=reference())
    if method == "reward":
        # Answers longer than the maximum are dropped, not cut.
        row = lambda n: {"chosen": words(length - 2, n + 7), "rejected": words(length - 2, n + 9)}
        return build(trl.RewardTrainer, trl.RewardConfig(**arguments(), max_length=length), row)
    if method != "hf":
        raise SystemExit(f"no method {method}")
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    r = random.Random(5)

    def lines(count):
        lengths = [r.randrange(length // 8, length) if C.get("vary") else length for _ in range(count)]
        return Dataset.from_list([{"input_ids": [4 + (i * 7 + j) % 3000 for j in range(n)], "attention_mask": [1] * n} for i, n in enumerate(lengths)])

    net = model()
    if C.get("lora"):
        from peft import get_peft_model

        if C.get("gc", True):
            net.enable_input_require_grads()
        net = get_peft_model(net, adapters())
    held = {}
    if C.get("eval_bs"):
        held["eval_dataset"] = lines(C.get("eval_rows", 64))
        if C.get("metrics"):
            held["compute_metrics"] = lambda p: {"rows": float(p.predictions.shape[0])}
    return Trainer(model=net, args=TrainingArguments(**arguments()), train_dataset=lines(rows * C.get("steps", 2)), data_collator=DataCollatorForLanguageModeling(tok, mlm=False), processing_class=tok, **held)


def rewards(completions, **_):
    return [float(len(c) % 7) for c in completions]


def watch_phases(tr, steps):
    from transformers import TrainerCallback

    tr.accelerator.backward = phase("backward", tr.accelerator.backward)
    for method, name in (("_generate", "generation"), ("_get_per_token_logps_and_entropies", "scoring"), ("compute_loss", "forward"), ("evaluation_loop", "eval")):
        if hasattr(tr, method):
            setattr(tr, method, phase(name, getattr(tr, method)))
    create = tr.create_optimizer

    def create_optimizer(*a, **k):
        made = create(*a, **k)
        inner = getattr(tr.optimizer, "optimizer", tr.optimizer)

        def before(*_):
            torch.cuda.synchronize()
            allocated_peak()
            PHASES["_now"] = "optimizer"

        def after(*_):
            torch.cuda.synchronize()
            seen = PHASES.setdefault("optimizer", {"peak": 0})
            seen["peak"] = max(seen["peak"], torch.cuda.max_memory_allocated())
            allocated_peak()

        inner.register_step_pre_hook(before)
        inner.register_step_post_hook(after)
        return made

    tr.create_optimizer = create_optimizer

    class Steps(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.at = time.time()

        def on_step_end(self, *_, **__):
            torch.cuda.synchronize()
            steps.append(round(time.time() - self.at, 3))

    tr.add_callback(Steps())


def main():
    if C["method"] == "save":
        torch.set_default_dtype(torch.bfloat16)
        model().save_pretrained(f"{SAVED}/{C['model']}")
        print("@@RESULT " + json.dumps({"id": C["id"], "ok": True}), flush=True)
        os._exit(0)
    watch, steps = Watch(), []
    watch.start()
    r = {"id": C["id"], "ok": False}
    try:
        torch.zeros(1, device="cuda")
        _, total = torch.cuda.mem_get_info()
        if C.get("cap") and not C.get("ballast"):
            torch.cuda.set_per_process_memory_fraction(C["cap"] * GIB / total)
        if C.get("trace"):
            torch.cuda.memory._record_memory_history(context=None, max_entries=4_000_000)
        tr = trainer()
        r["after_build"] = torch.cuda.memory_allocated()
        r["parameters"] = sum(p.numel() for p in tr.model.parameters())
        watch_phases(tr, steps)
        tr.train()
        r["ok"] = True
    except BaseException as e:
        r["error"], r["message"] = type(e).__name__, str(e)[:2000]
        traceback.print_exc()
    if torch.cuda.is_initialized():
        allocated_peak()
        stats = torch.cuda.memory_stats()
        r.update(allocated=PHASES["_peak"], reserved=PHASES["_reserved"], retries=stats.get("num_alloc_retries"), gpu=torch.cuda.get_device_name(),
                 small_pool=stats.get("reserved_bytes.small_pool.peak"), large_pool=stats.get("reserved_bytes.large_pool.peak"))
        if C.get("trace"):
            trace(C["trace"])
    watch.stop = True
    watch.join(1)
    r.update(device=watch.process, card=watch.device, phases={k: v for k, v in PHASES.items() if k[0] != "_"}, last_phase=PHASES.get("_now"),
             step_seconds=steps, seconds=round(time.time() - t0, 1))
    sys.stderr.flush()
    print("\n@@RESULT " + json.dumps(r), flush=True)
    os._exit(0 if r["ok"] else 1)


main()
