import os; os.environ["WANDB_MODE"] = "offline"
import wandb, math
r = wandb.init(project="demo", dir="wb_out", config={"max_steps": 30, "lr": 1e-3}, settings=wandb.Settings(console="redirect", x_disable_meta=True))
for s in range(15):
    print(f"step {s} loss {2/(s+1):.4f}")
    row = {"train": {"loss": 2 / (s + 1), "lr": 1e-3}, "perf/tokens_per_second": 1000.0 + s}
    if s == 6: row["train"]["grad_norm"] = math.nan
    if s == 7: row["train"]["grad_norm"] = math.inf
    r.log(row, step=s * 10)
    if s % 5 == 4: r.log({"val/loss": 2.2 / (s + 1), "hist": wandb.Histogram([1, 2, 3])}, step=s * 10 + 1)
r.finish()
